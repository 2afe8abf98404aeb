//! Questions to one agent, with time limits and repetitions.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use snmp2::v3::{AuthErrorKind, KeyExtension, Security};
use snmp2::{AsyncSession, Error, Oid, Pdu};
use tokio::time::{sleep, timeout};

use super::discovery::discover;
use super::error::PollError;
use super::login::Login;

/// A question is asked so often again because clocks or numbers did not agree.
const REPEATS_MAX: usize = 3;

/// How agents are asked.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one answer.
    pub timeout: Duration,
    /// How often a question is asked again.
    pub retries: usize,
}

/// A conversation with one agent.
pub struct Session {
    agent: SocketAddr,
    credentials: Credentials,
    patience: Patience,
    /// A socket is left when an answer may be under way to it: it would be taken for the next one.
    open: Option<AsyncSession>,
}

enum Credentials {
    Community(Vec<u8>),
    User(Box<Security>),
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// GetRequest.
    Get(&'a Oid<'a>),
    /// GetBulkRequest for so many that follow.
    Bulk(&'a Oid<'a>, u32),
}

impl Session {
    /// Prepares to ask; an agent of version 3 is asked who it is.
    ///
    /// # Errors
    /// When it does not say, or cannot be reached.
    pub async fn open(
        agent: SocketAddr,
        login: Login,
        extension: KeyExtension,
        patience: Patience,
    ) -> Result<Self, PollError> {
        let credentials = match login {
            Login::Community(community) => Credentials::Community(community),
            Login::User(user) => {
                let engine = discover(agent, patience.timeout, patience.retries).await?;
                let make = move || user.security(&engine, extension);
                let made = tokio::task::spawn_blocking(make).await;
                let security = made.map_err(|_| PollError::Broken)?;
                Credentials::User(Box::new(security.map_err(PollError::Odd)?))
            }
        };
        Ok(Self {
            agent,
            credentials,
            patience,
            open: None,
        })
    }

    /// Asks, and reads the answer with `read`.
    ///
    /// # Errors
    /// When there is none, or none of use.
    pub async fn ask<T>(
        &mut self,
        question: Question<'_>,
        mut read: impl FnMut(&Pdu<'_>) -> Result<T, PollError>,
    ) -> Result<T, PollError> {
        let (mut tries, mut repeats) = (0, 0);
        loop {
            let session = match &mut self.open {
                Some(session) => session,
                none => none.insert(connect(self.agent, &self.credentials).await?),
            };
            let asked = async {
                match question {
                    Question::Get(name) => session.get(name).await,
                    Question::Bulk(name, count) => session.getbulk(&[name], 0, count).await,
                }
            };
            let failed = match timeout(self.patience.timeout, asked).await {
                Ok(Ok(answer)) => return read(&answer),
                Ok(Err(error)) => Failed::of(error, &self.credentials),
                Err(_) => Failed::Silent(PollError::Timeout),
            };
            match failed {
                Failed::Anew { is_stale, .. } if repeats < REPEATS_MAX => {
                    repeats += 1;
                    if is_stale {
                        self.open = None;
                    }
                }
                Failed::Silent(error) => {
                    self.open = None;
                    if tries >= self.patience.retries {
                        return Err(error);
                    }
                    tries += 1;
                    if matches!(error, PollError::Unreachable(_)) {
                        // It is known at once; a moment later there may be a way.
                        sleep(self.patience.timeout).await;
                    }
                }
                Failed::For(error) | Failed::Anew { error, .. } => return Err(error),
            }
        }
    }
}

async fn connect(agent: SocketAddr, credentials: &Credentials) -> Result<AsyncSession, PollError> {
    // Nobody can guess it who does not see the question.
    let number = rand::random::<i32>() & 0x3fff_ffff;
    let session = match credentials {
        Credentials::Community(community) => AsyncSession::new_v2c(agent, community, number).await,
        Credentials::User(security) => {
            AsyncSession::new_v3(agent, number, Security::clone(security)).await
        }
    };
    session.map_err(PollError::Unreachable)
}

/// What a failed question calls for.
enum Failed {
    /// To be asked again at once.
    Anew {
        /// The answer was that to an earlier question; others may wait behind it.
        is_stale: bool,
        /// When that has been tried often enough.
        error: PollError,
    },
    /// To be asked again while there are tries left.
    Silent(PollError),
    /// No use.
    For(PollError),
}

impl Failed {
    fn of(error: Error, credentials: &Credentials) -> Self {
        let is_user = matches!(credentials, Credentials::User(_));
        match error {
            Error::RequestIdMismatch => Self::Anew {
                is_stale: true,
                error: PollError::Timeout,
            },
            // The agent told its clock (RFC 3414 section 3.2, step 7), of which the session has
            // taken note; such a report is signed, but never encrypted.
            Error::AuthUpdated => Self::Anew {
                is_stale: false,
                error: PollError::User(AuthErrorKind::EngineTimeMismatch),
            },
            Error::AuthFailure(
                kind @ (AuthErrorKind::EngineTimeMismatch | AuthErrorKind::ReplyNotEncrypted),
            ) => Self::Anew {
                is_stale: false,
                error: PollError::User(kind),
            },
            Error::Send | Error::Receive => {
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                Self::Silent(PollError::Unreachable(refused))
            }
            Error::AuthFailure(kind) => Self::For(PollError::User(kind)),
            // A report instead of an answer.
            Error::AsnWrongType if is_user => {
                Self::For(PollError::User(AuthErrorKind::NotAuthenticated))
            }
            error => Self::For(PollError::Odd(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use flowsluice_tests::agent::Agent;

    use super::super::walk::poll;
    use super::*;
    use crate::config::{SnmpAuth, SnmpPrivacy, SnmpTarget, SnmpVersion};

    const PATIENCE: Patience = Patience {
        timeout: Duration::from_secs(2),
        retries: 3,
    };

    #[tokio::test]
    async fn an_agent_whose_clock_is_another_is_asked_again_by_its_clock() {
        let lines = "createUser someone SHA-256 \"a password\" AES \"a password\"\n\
                     rouser someone auth\n";
        let Some(agent) = Agent::start_or_skip(lines).unwrap() else {
            return;
        };
        let file = agent.file("password", "a password\n").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], agent.port()));
        for privacy in [SnmpPrivacy::None, SnmpPrivacy::Aes128] {
            let target = SnmpTarget {
                source: address.ip().into(),
                address: None,
                port: agent.port(),
                version: SnmpVersion::V3,
                community: None,
                community_file: "".into(),
                user: "someone".into(),
                auth: SnmpAuth::Sha256,
                auth_password_file: file.clone(),
                privacy,
                privacy_password_file: file.clone(),
            };
            let Login::User(user) = Login::read(&target).unwrap() else {
                panic!("version 3 has users");
            };
            let right = discover(address, PATIENCE.timeout, PATIENCE.retries).await;
            let right = right.unwrap();
            for (boots, time) in [(0, 1000), (1, 0), (1, 1000)] {
                let mut engine = right.clone();
                engine.boots -= boots;
                engine.time += time;
                let user = user.clone();
                let security = user.security(&engine, KeyExtension::Blumenthal);
                let mut session = Session {
                    agent: address,
                    credentials: Credentials::User(Box::new(security.unwrap())),
                    patience: PATIENCE,
                    open: None,
                };
                let said = poll(&mut session, 100).await;
                let said = said.map_err(|error| format!("{privacy:?} {boots} {time}: {error}"));
                assert_eq!(&*said.unwrap().interfaces[&1].name, "lo");
            }
        }
    }
}
