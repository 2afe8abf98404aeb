//! Why an agent could not be asked.

use std::io;
use std::path::PathBuf;

use snmp2::v3::AuthErrorKind;
use thiserror::Error;

/// Why a poll failed.
#[derive(Debug, Error)]
pub enum PollError {
    /// It did not answer, or answered nothing to this community.
    #[error("it does not answer")]
    Timeout,
    /// The whole poll took too long.
    #[error("it answers too slowly: the poll was given up")]
    TooSlow,
    /// There is no way to it.
    #[error("it cannot be reached ({0})")]
    Unreachable(io::Error),
    /// A file with a secret cannot be read.
    #[error("{file} cannot be read ({error})", file = file.display())]
    SecretUnreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The first line of a file with a secret is empty or too long.
    #[error("the first line of {file} has {bytes} bytes; 1 to {max} are allowed",
        file = file.display(), max = super::login::SECRET_MAX)]
    SecretLength {
        /// The file.
        file: PathBuf,
        /// Bytes of its first line.
        bytes: usize,
    },
    /// `community` or `user` is too long.
    #[error("its {0} in the configuration is too long")]
    NameLength(&'static str),
    /// It calls itself something that nobody may be called (RFC 3411 section 5).
    #[error("its engine id has {0} bytes; 5 to 32 are allowed")]
    EngineId(usize),
    /// The agent refuses the user, or what it says is not signed or encrypted as agreed.
    #[error("it does not accept the user ({0})")]
    User(AuthErrorKind),
    /// An error status of RFC 3416.
    #[error("it refuses the question (error-status {0})")]
    Refused(u32),
    /// What it says makes no sense.
    #[error("its answer makes no sense ({0})")]
    Odd(snmp2::Error),
    /// A walk that would not end.
    #[error("its answers run in circles: an index does not follow the one before")]
    NotIncreasing,
    /// It answers, but shows no interface.
    #[error("it shows no interfaces")]
    NoInterfaces,
    /// The question was dropped half-way.
    #[error("asking it went wrong in this program")]
    Broken,
}

impl PollError {
    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Timeout => {
                "see that the agent runs and lets this host in, and that port, version, community \
                 or privacy password are its own; an agent is silent to a wrong community"
            }
            Self::TooSlow => {
                "raise enrich.snmp.timeout only if the way to it is long; see its load"
            }
            Self::Unreachable(_) => "see enrich.snmp.targets: address, port; and the route to it",
            Self::SecretUnreadable { .. } | Self::SecretLength { .. } => {
                "write the secret into the first line, and let the collector's user read it"
            }
            Self::NameLength(_) => "shorten it in enrich.snmp.targets",
            Self::User(_) => {
                "see that the agent knows the user, and that auth, privacy and both passwords of \
                 enrich.snmp.targets are the agent's"
            }
            Self::NoInterfaces | Self::Refused(_) => {
                "let the agent show 1.3.6.1.2.1.1.5, 1.3.6.1.2.1.2.2 and 1.3.6.1.2.1.31.1.1"
            }
            Self::EngineId(_) | Self::Odd(_) | Self::NotIncreasing => {
                "see whether it is an SNMP agent; update its software"
            }
            Self::Broken => "see the log for a panic, and report it",
        }
    }
}
