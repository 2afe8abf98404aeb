//! With what an agent is asked: community or user, out of the configuration and files of secrets.

use std::path::Path;

use snmp2::v3::{Auth, AuthProtocol, Cipher, KeyExtension, Security};

use super::discovery::Engine;
use super::error::PollError;
use crate::config::{self, FirstLineError, SnmpAuth, SnmpPrivacy, SnmpTarget, SnmpVersion};

/// Bytes of a community or password.
pub const SECRET_MAX: usize = 255;
/// Bytes of a user's name (RFC 3414 section 5, `usmUserName`).
const USER_MAX: usize = 32;

/// What an agent wants to hear.
#[derive(Clone)]
pub enum Login {
    /// Version 2c.
    Community(Vec<u8>),
    /// Version 3.
    User(User),
}

/// A user of the user-based security model (RFC 3414).
#[derive(Clone)]
pub struct User {
    name: Vec<u8>,
    auth: Option<(AuthProtocol, Vec<u8>)>,
    privacy: Option<(Cipher, Vec<u8>)>,
}

impl Login {
    /// Reads the files that `target` names: secrets may change while the collector runs.
    ///
    /// # Errors
    /// With the file that cannot be read, or whose first line is no secret.
    pub fn read(target: &SnmpTarget) -> Result<Self, PollError> {
        match target.version {
            SnmpVersion::V2c => Self::community(target),
            SnmpVersion::V3 => User::read(target).map(Self::User),
        }
    }

    fn community(target: &SnmpTarget) -> Result<Self, PollError> {
        if !target.community_file.as_os_str().is_empty() {
            return first_line(&target.community_file).map(Self::Community);
        }
        let community = target.community.as_ref();
        let community = community.map_or("", |secret| secret.reveal());
        if community.len() > SECRET_MAX {
            return Err(PollError::NameLength("community"));
        }
        Ok(Self::Community(community.into()))
    }

    /// Ways in which a key is made longer than the hash that it comes from. There are two for
    /// AES-256 with short hashes, in drafts that never became a standard, and agents that know one.
    #[must_use]
    pub fn key_extensions(&self) -> &'static [KeyExtension] {
        match self {
            Self::User(User {
                auth: Some((auth, _)),
                privacy: Some((cipher, _)),
                ..
            }) if cipher.priv_key_needs_extension(auth) => {
                &[KeyExtension::Blumenthal, KeyExtension::Reeder]
            }
            _ => &[KeyExtension::Blumenthal],
        }
    }
}

impl User {
    fn read(target: &SnmpTarget) -> Result<Self, PollError> {
        if target.user.len() > USER_MAX {
            return Err(PollError::NameLength("user"));
        }
        let auth = match target.auth {
            SnmpAuth::None => None,
            SnmpAuth::Md5 => Some(AuthProtocol::Md5),
            SnmpAuth::Sha1 => Some(AuthProtocol::Sha1),
            SnmpAuth::Sha256 => Some(AuthProtocol::Sha256),
            SnmpAuth::Sha512 => Some(AuthProtocol::Sha512),
        };
        let privacy = match target.privacy {
            SnmpPrivacy::None => None,
            SnmpPrivacy::Des => Some(Cipher::Des),
            SnmpPrivacy::Aes128 => Some(Cipher::Aes128),
            SnmpPrivacy::Aes256 => Some(Cipher::Aes256),
        };
        // There is no encryption without authentication.
        let privacy = privacy.filter(|_| auth.is_some());
        let with_password = |file: &Path| first_line(file);
        Ok(Self {
            name: target.user.clone().into(),
            auth: auth
                .map(|auth| Ok((auth, with_password(&target.auth_password_file)?)))
                .transpose()?,
            privacy: privacy
                .map(|cipher| Ok((cipher, with_password(&target.privacy_password_file)?)))
                .transpose()?,
        })
    }

    /// Makes the keys for this engine: a megabyte is hashed for each password, so it takes some
    /// milliseconds.
    pub fn security(
        self,
        engine: &Engine,
        extension: KeyExtension,
    ) -> Result<Security, snmp2::Error> {
        let (protocol, password) = self.auth.unzip();
        let auth = match (protocol, self.privacy) {
            (None, _) => Auth::NoAuthNoPriv,
            (Some(_), None) => Auth::AuthNoPriv,
            (Some(_), Some((cipher, privacy_password))) => Auth::AuthPriv {
                cipher,
                privacy_password,
            },
        };
        Security::new(&self.name, &password.unwrap_or_default())
            .with_auth(auth)
            .with_auth_protocol(protocol.unwrap_or(AuthProtocol::Md5))
            .with_key_extension_method(extension)
            .with_engine_boots_and_time(engine.boots, engine.time)
            .with_engine_id(&engine.id)
    }
}

/// The first line of a file.
fn first_line(file: &Path) -> Result<Vec<u8>, PollError> {
    config::first_line(file, SECRET_MAX).map_err(|error| match error {
        FirstLineError::Unreadable(error) => PollError::SecretUnreadable {
            file: file.into(),
            error,
        },
        FirstLineError::Length(bytes) => PollError::SecretLength {
            file: file.into(),
            bytes,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_and_errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "pass word\r\nnot this\n").unwrap();
        assert_eq!(first_line(&file).unwrap(), b"pass word");
        for (text, why) in [
            (String::new(), "0 bytes"),
            ("\nsecond".into(), "0 bytes"),
            ("x".repeat(1 << 20), "257 bytes"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = first_line(&file).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()), "{error}");
            assert!(error.contains(why), "{error}");
        }
        let error = first_line(&folder.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none cannot be read"), "{error}");
    }
}
