//! Tells systemd how the service is (sd_notify(3)), where it runs as one of `Type=notify`.
//!
//! In: what the collector knows of itself. Out: messages to the socket that `NOTIFY_SOCKET` names;
//! without one nothing is told. Owner: the runtime.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time;
use tracing::warn;

use crate::http::State;

/// How often the state is looked at where nobody watches.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A third of systemd's patience: two messages may be late before it restarts the service.
const MESSAGES_IN_PATIENCE: u32 = 3;

/// True when systemd, or somebody like it, wants to be told.
fn is_followed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The end has begun: what was received is being stored.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("storing what was received"),
    ]);
}

/// Tells that datagrams are being received (ClickHouse may not be there yet: what comes waits for
/// it), then what `systemctl status` shows, and that all workers turn for as long as they do: with
/// `WatchdogSec=`, a worker that stands still has the service restarted.
pub async fn follow(state: Arc<State>) {
    if !is_followed() {
        return;
    }
    tell(&[NotifyState::Ready]);
    let patience = sd_notify::watchdog_enabled();
    let every = patience.map_or(LOOK_EVERY, |all| all / MESSAGES_IN_PATIENCE);
    let mut looks = time::interval(every.max(Duration::from_millis(1)));
    let mut told = String::new();
    loop {
        looks.tick().await;
        let unhealthy = state.unhealthy();
        if patience.is_some() && unhealthy.is_none() {
            tell(&[NotifyState::Watchdog]);
        }
        let now = unhealthy.or_else(|| state.unready());
        let now = now.unwrap_or_else(|| "collecting".into());
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd cannot be told how the service is");
    }
}
