//! `[[receive.tee]]`.

use std::net::SocketAddr;

use super::super::Receive;
use super::{PREFIXES_MAX, Problems};
use crate::receive::tee::TEES_MAX;

impl Problems {
    pub(super) fn tee(&mut self, receive: &Receive) {
        self.count("receive.tee", receive.tee.len(), 0..=TEES_MAX);
        for (index, tee) in receive.tee.iter().enumerate() {
            let at = format!("receive.tee[{index}]");
            let count = tee.exporters.len();
            self.count(&format!("{at}.exporters"), count, 0..=PREFIXES_MAX);
            let key = format!("{at}.to");
            if let Some(fault) = tee.fault() {
                self.add(key, fault);
            } else if receive.tee[..index].iter().any(|other| other.to == tee.to) {
                let text = format!("{} is listed twice; make one of the two", tee.to);
                self.add(key, text);
            } else if comes_back(&tee.to, receive) {
                let text = format!(
                    "{} is a listener of this collector, which would get each datagram again \
                     and again; name another collector",
                    tee.to
                );
                self.add(key, text);
            }
        }
    }
}

/// True where it is plain that a listener of this configuration takes what is sent to `to`.
fn comes_back(to: &str, receive: &Receive) -> bool {
    let to = to.replace("localhost", "127.0.0.1");
    let Ok(to) = to.parse::<SocketAddr>() else {
        return false;
    };
    receive.listeners.iter().any(|listener| {
        let is_here = listener.address == to.ip()
            || listener.address.is_unspecified() && to.ip().is_loopback()
            || to.ip().is_unspecified();
        is_here && listener.port == to.port()
    })
}
