//! Whether memory is locked when it is asked for, which a limit alone does not tell.

#![allow(
    unsafe_code,
    reason = "mlock takes a pointer, so every crate has it unsafe"
)]

use std::io;

/// Locks `bytes` of fresh memory and lets go of them.
///
/// # Errors
/// `ENOMEM` or `EPERM` beyond RLIMIT_MEMLOCK without CAP_IPC_LOCK, `ENOMEM` when there is not that
/// much.
pub fn try_lock(bytes: usize) -> io::Result<()> {
    let mut memory: Vec<u8> = Vec::new();
    memory
        .try_reserve_exact(bytes)
        .map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
    memory.resize(bytes, 0);
    // SAFETY: locking changes no byte of a mapping, and `memory` is `bytes` long and alive.
    let locked = unsafe { libc::mlock(memory.as_ptr().cast(), bytes) };
    if locked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above; nothing else in this process locks memory that may share its first or last
    // page.
    let unlocked = unsafe { libc::munlock(memory.as_ptr().cast(), bytes) };
    debug_assert_eq!(unlocked, 0, "what is locked can be unlocked");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_can_be_locked_and_more_than_there_is_cannot() {
        assert!(try_lock(4096).is_ok());
        assert!(try_lock(usize::MAX).is_err());
    }
}
