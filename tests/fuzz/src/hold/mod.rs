//! The properties.

mod capture;
mod config;
mod decoding;
mod packet;
mod session;

pub use capture::pcap;
pub use config::config;
pub use decoding::{Rows, Watched, protocol};
pub use packet::packet;
pub use session::session;
