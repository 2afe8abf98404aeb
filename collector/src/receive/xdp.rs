//! AF_XDP: frames of one queue of an interface, without the kernel's UDP stack.
//!
//! In: Ethernet frames that the XDP program steered here, and what the kernel's own sockets got
//! besides. Out: UDP payloads, borrowed from the frame. Owner: one worker; a system call a burst.
//! Drops: `frame_malformed`; what the kernel could not place in a ring is read from the sockets.
//! Spec: <https://www.kernel.org/doc/html/latest/networking/af_xdp.html>, `linux/if_xdp.h`.

pub mod program;
pub mod receiver;
pub mod refused;
pub mod ring;
pub mod socket;
pub mod steering;
pub mod umem;
pub mod verify;

pub use refused::{Step, XdpRefused};
pub use socket::{frames_bytes, memory_bytes};
