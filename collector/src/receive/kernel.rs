//! The few kernel calls that neither the standard library nor socket2 wraps.

#![allow(
    unsafe_code,
    reason = "mmap for buffers that the kernel writes to, and three socket options, need libc"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Anonymous memory of whole pages, zero, and resident only once it is written to.
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
    /// Maps at least `len` bytes (one, when `len` is zero).
    ///
    /// # Errors
    /// `ENOMEM` when the address space or a limit is exhausted.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1);
        // SAFETY: a new anonymous mapping at an address that the kernel chooses touches no memory
        // that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap never maps page zero unasked");
        Ok(Self { start, len })
    }

    /// Its first byte; page-aligned and valid for as long as the mapping lives.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of the mapping made in `new`, which nothing else
        // unmaps; whoever holds pointers into it keeps the `Mapping` alive.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, 0, "a mapping of our own can be unmapped");
    }
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
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: `values` is writable for `len` bytes, which is its size, and both outlive the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(values[libc::SK_MEMINFO_DROPS as usize])
}

/// Lets the kernel hand over merged datagrams, their length beside them.
///
/// # Errors
/// `ENOPROTOOPT` on kernels before 5.0.
pub(super) fn merge_datagrams(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
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
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value)
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option's value is read from `value`, an int of the length given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_zero_and_page_aligned() {
        let mapping = Mapping::new(10_000).unwrap();
        assert_eq!(mapping.start().as_ptr().addr() % 4096, 0);
        // SAFETY: the mapping is that long, alive, and nothing else refers to it.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.start().as_ptr(), 10_000) };
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
}
