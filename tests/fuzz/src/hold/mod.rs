//! The properties.

mod capture;
mod config;
mod decoding;
mod packet;
mod session;
mod state;
mod stream;

pub use capture::pcap;
pub use config::config;
pub use decoding::{Rows, Watched, protocol};
pub use packet::packet;
pub use session::session;
pub use state::state;
pub use stream::{CLOSES_BIT, REPEATED_BIT, stream};
