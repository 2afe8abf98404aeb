//! Whether a frame that did not pass the kernel is the datagram that it says it is.
