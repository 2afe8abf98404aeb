//! What the commands share that send datagrams.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};

/// Where to send to, as an argument says it.
pub fn target(text: &str) -> Result<SocketAddr, String> {
    let found = match text.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => resolve(text)?,
    };
    match found.port() {
        0 => Err("nobody listens on port 0; name the collector's, for example 2055".into()),
        _ => Ok(found),
    }
}

/// The first address of `HOST:PORT`.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    const FORM: &str = "HOST:PORT is wanted, for example 127.0.0.1:2055 or [::1]:2055";
    let is_bare = |(host, _): (&str, &str)| host.contains(':') && !host.starts_with('[');
    if text.rsplit_once(':').is_some_and(is_bare) {
        return Err(format!("an IPv6 address stands in brackets; {FORM}"));
    }
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; {FORM}"))?;
    addresses
        .next()
        .ok_or_else(|| "the name has no address; name another host, or its address".into())
}

/// Fails when most of what was sent was refused.
pub fn ensure_heard(target: SocketAddr, sent: u64, refused: u64) -> anyhow::Result<()> {
    ensure!(
        refused <= sent / 2,
        "nobody listens on {target}: {refused} of {sent} datagrams were refused"
    );
    Ok(())
}

/// A flag that the first SIGINT or SIGTERM sets. A SIGINT after it ends the process: what is under
/// way may take long.
pub fn stop_at_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("no runtime for signals")?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let (mut interrupt, mut terminate) = {
        let _in_runtime = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            flag.store(true, Ordering::Relaxed);
            runtime.block_on(interrupt.recv());
            std::process::exit(EXIT_INTERRUPTED);
        })
        .context("no thread for signals")?;
    Ok(stop)
}

/// 128 and the number of SIGINT, as shells count.
const EXIT_INTERRUPTED: i32 = 130;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_versions_and_names_are_taken() {
        for text in ["127.0.0.1:2055", "[::1]:2055", "[2001:db8::1]:2055"] {
            assert_eq!(target(text).unwrap().to_string(), text);
        }
        assert!(target("localhost:2055").unwrap().ip().is_loopback());
    }

    #[test]
    fn what_is_no_target_says_what_is() {
        for (text, said) in [
            ("127.0.0.1:0", "port 0"),
            ("localhost:0", "port 0"),
            ("127.0.0.1", "HOST:PORT is wanted"),
            ("127.0.0.1:flows", "HOST:PORT is wanted"),
            ("2001:db8::1:2055", "in brackets"),
            ("", "HOST:PORT is wanted"),
        ] {
            let error = target(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn half_of_the_datagrams_refused_is_heard_and_more_is_not() {
        let to = target("127.0.0.1:9").unwrap();
        ensure_heard(to, 0, 0).unwrap();
        ensure_heard(to, 4, 2).unwrap();
        ensure_heard(to, 4, 3).unwrap_err();
    }
}
