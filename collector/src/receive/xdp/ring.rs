//! The rings that a socket shares with the kernel.
