//! One poll of one exporter, from its secrets to its last interface.

use std::net::SocketAddr;
use std::sync::Arc;

use snmp2::v3::KeyExtension;
use tokio::time::timeout;

use super::POLL_TIME_MAX;
use super::error::PollError;
use super::login::Login;
use super::session::{Patience, Session};
use super::walk::{ROWS_MAX, Said, poll};
use crate::config::SnmpTarget;
use crate::flow::Address;

/// What a poll brought, and how keys were made long.
pub type Outcome = (Result<Said, PollError>, KeyExtension);

/// Where the agent of an exporter answers.
pub fn agent_of(exporter: Address, target: &SnmpTarget) -> SocketAddr {
    let address = target.address.unwrap_or_else(|| exporter.to_ip());
    SocketAddr::new(address, target.port)
}

/// One poll, with keys made long as in `first` and, where that may be the trouble, otherwise.
pub async fn ask(
    exporter: Address,
    target: Arc<SnmpTarget>,
    patience: Patience,
    first: KeyExtension,
) -> Outcome {
    let agent = agent_of(exporter, &target);
    let read = tokio::task::spawn_blocking(move || Login::read(&target)).await;
    let login = match read {
        Ok(Ok(login)) => login,
        Ok(Err(error)) => return (Err(error), first),
        Err(_) => return (Err(PollError::Broken), first),
    };
    let has_two = login.key_extensions().len() > 1;
    let once = async |login, extension| {
        let asked = async {
            let mut session = Session::open(agent, login, extension, patience).await?;
            poll(&mut session, ROWS_MAX).await
        };
        timeout(POLL_TIME_MAX, asked)
            .await
            .unwrap_or(Err(PollError::TooSlow))
    };
    let outcome = once(login.clone(), first).await;
    let may_be_key = matches!(
        outcome,
        Err(PollError::Timeout | PollError::User(_) | PollError::Odd(_))
    );
    if !has_two || !may_be_key {
        return (outcome, first);
    }
    let other = first.other();
    match once(login, other).await {
        Ok(said) => (Ok(said), other),
        // What the first way met with is what counts.
        Err(_) => (outcome, first),
    }
}
