//! What this host is: its interfaces, processors, interrupts and limits, as the kernel tells them.
//!
//! In: nothing but questions to the kernel, which change nothing and need no privilege unless they
//! say so. Out: facts, unjudged; `flowsluice doctor` judges them. Owner: whoever asks.
//!
//! What belongs to a network namespace is asked by rtnetlink and ioctl, which answer for the
//! namespace of the calling thread. `/sys/class/net` answers for the one that its mount was made
//! in, so it is read only where netlink has no answer, and only when it shows the same interface.
//! rtnetlink is read by a few lines of our own ([`netlink`]): the crates for it either refuse a
//! whole message for one attribute that a newer kernel writes differently, or know nothing of the
//! `netdev` family, or are asynchronous.

pub mod allocator;
pub mod bpf;
pub mod cpus;
pub mod ethtool;
pub mod interface;
pub mod interrupts;
pub mod kernel;
pub mod limits;
pub mod memory_lock;
pub mod netdev;
pub mod netlink;

pub use interface::{Interface, Kind};
