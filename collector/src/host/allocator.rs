//! What the allocator keeps of memory that was given back to it.

#![allow(
    unsafe_code,
    reason = "malloc_trim and mallopt are functions of C, so they are unsafe"
)]

/// Pieces of at least so many bytes get a mapping of their own, which grows without a copy and goes
/// back to the kernel when they are freed. Blocks for ClickHouse are smaller, tables larger.
#[cfg(target_env = "gnu")]
const OWN_MAPPING_BYTES: i32 = 8 << 20;
/// Free memory at the end of a heap up to this is kept: what blocks were made in is used again.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: i32 = 64 << 20;

/// Once, before there are threads. By itself glibc raises the first limit to 32 MiB as soon as such
/// a piece was freed, and what tables grew out of while they were made stays: 65 MiB more while
/// databases of places are replaced.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    // SAFETY: they take numbers, change no memory that is in use, and no other thread allocates.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Gives memory that is free, but kept for later, back to the kernel. Takes tens of milliseconds
/// for hundreds of megabytes, in which threads that allocate may wait: not for the hot path.
///
/// glibc keeps pieces below 32 MiB once such a piece was freed (mallopt(3), M_MMAP_THRESHOLD), and
/// whole pages between pieces that are in use.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, changes no memory that is in use, and locks what others use too.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of memory that this process occupies.
    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn memory_between_pieces_in_use_is_given_back() {
        // Pieces too small to have a mapping each; every 64th stays in use.
        let mut pieces: Vec<_> = (0..64_000).map(|_| Some(vec![1_u8; 4096])).collect();
        for (number, piece) in pieces.iter_mut().enumerate() {
            if number % 64 != 0 {
                *piece = None;
            }
        }
        let before = resident_kib();
        give_back();
        let after = resident_kib();
        assert!(
            after + 64 * 1024 < before,
            "{before} KiB before, {after} after"
        );
        drop(pieces);
    }
}
