//! The few kernel calls that neither the standard library nor socket2 wraps.

#![allow(
    unsafe_code,
    reason = "mmap for memory that the kernel writes to, and socket options, need libc"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Memory of whole pages that the kernel writes to as well.
///
/// Not a `Vec`: the kernel writes to it behind the compiler's back, and a provided-buffer ring has
/// to begin on a page.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Mapping` is its only owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps at least `len` bytes (one, when `len` is zero) of anonymous memory, zero, and resident
    /// only once it is written to.
    ///
    /// # Errors
    /// `ENOMEM` when the address space or a limit is exhausted.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::map(len.max(1), flags, -1, 0)
    }

    /// Likewise, of huge pages of [`HUGE_PAGE_BYTES`]. They are reserved at once: a page that is
    /// missing later would kill the process.
    ///
    /// # Errors
    /// `ENOMEM` when so many are not free.
    pub(super) fn huge(len: usize) -> io::Result<Self> {
        let flags =
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        Self::map(len.max(1).next_multiple_of(HUGE_PAGE_BYTES), flags, -1, 0)
    }

    /// Maps `len` bytes of `file` from `offset`, shared with the kernel and resident at once.
    ///
    /// # Errors
    /// `EINVAL` when the file has nothing of this length there; else as [`Mapping::new`].
    pub(super) fn shared(
        file: BorrowedFd<'_>,
        len: usize,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::map(len.max(1), flags, file.as_raw_fd(), offset)
    }

    fn map(
        len: usize,
        flags: libc::c_int,
        file: libc::c_int,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory that
        // exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                file,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap never maps page zero unasked");
        Ok(Self { start, len })
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Its first byte; page-aligned and valid for as long as the mapping lives.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of the mapping made in `map`, which nothing else
        // unmaps; whoever holds pointers into it keeps the `Mapping` alive.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, 0, "a mapping of our own can be unmapped");
    }
}

/// The size that [`Mapping::huge`] asks for; x86-64 has it, and arm64 with pages of 4 KiB.
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A value that the kernel reads or writes byte by byte.
///
/// # Safety
/// Only for types of integers without padding, for which any bytes are a value.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: integers.
unsafe impl<const N: usize> Plain for [u32; N] {}

/// Reads a socket option into `value`, which keeps what the kernel does not write. Returns how many
/// bytes it wrote.
///
/// # Errors
/// The kernel's; `ENOPROTOOPT` when it does not know the option.
pub(super) fn option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<usize> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes, which is its size, both outlive the call, and
    // `Plain` says that whatever is written is a value.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut len,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(len as usize)
}

/// Sets a socket option.
///
/// # Errors
/// The kernel's; `ENOPROTOOPT` when it does not know the option.
pub(super) fn set_option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: `value` is readable for the length given, its size, and `Plain` has no padding.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `SK_MEMINFO_VARS` of <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/sock_diag.h>.
const MEMINFO_VALUES: usize = libc::SK_MEMINFO_DROPS as usize + 1;

/// Datagrams that the kernel dropped for this socket, wrapping at 2^32. Unlike SO_RXQ_OVFL it needs
/// no later datagram to be seen.
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 4.12.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut values = [0_u32; MEMINFO_VALUES];
    option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut values)?;
    Ok(values[libc::SK_MEMINFO_DROPS as usize])
}

/// Sets the receive buffer to `bytes` whatever net.core.rmem_max says.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN.
pub(super) fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    // The kernel doubles the value in an int, so more than half of one would overflow there.
    let value = libc::c_int::try_from(bytes)
        .unwrap_or(libc::c_int::MAX)
        .min(libc::c_int::MAX / 2);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &value)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_mapping_is_zero_and_page_aligned() {
        let mapping = Mapping::new(10_000).unwrap();
        assert_eq!(mapping.start().as_ptr().addr() % 4096, 0);
        // SAFETY: the mapping is that long, alive, and nothing else refers to it.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.start().as_ptr(), 10_000) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert_eq!(mapping.len(), 10_000);
    }

    #[test]
    fn an_option_is_read_back_and_its_length_is_told() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut value: libc::c_int = 0;
        let name = libc::SO_REUSEADDR;
        set_option(socket.as_fd(), libc::SOL_SOCKET, name, &1).unwrap();
        let len = option(socket.as_fd(), libc::SOL_SOCKET, name, &mut value).unwrap();
        assert_eq!((value, len), (1, 4));
    }
}
