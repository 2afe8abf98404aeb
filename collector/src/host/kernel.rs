//! The kernel: its version and its settings.

use std::fmt;
use std::io;
use std::path::Path;

use socket2::{Domain, Socket, Type};

/// Major and minor number; distributions' patches hide behind the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// Of a release as `uname -r` prints it.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(str::parse::<u32>);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The value of a setting by its name in sysctl(8), `net.core.rmem_max`.
///
/// # Errors
/// `NotFound` where the kernel has no such setting, `PermissionDenied` where only root reads it.
pub fn setting(name: &str) -> io::Result<String> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    std::fs::read_to_string(path).map(|value| value.trim().to_owned())
}

/// Whether an AF_XDP socket can be made.
///
/// # Errors
/// `EAFNOSUPPORT` when the kernel is built without them, `EPERM` without CAP_NET_RAW.
pub fn xdp_socket() -> io::Result<()> {
    let type_ = Type::from(libc::SOCK_RAW);
    Socket::new(Domain::from(libc::AF_XDP), type_, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read_and_ordered() {
        let version = Version::parse;
        assert_eq!(version("6.1.0-18-amd64"), Some(Version(6, 1)));
        assert_eq!(version("5.14.0-427.el9.x86_64"), Some(Version(5, 14)));
        assert_eq!(version("6.18"), Some(Version(6, 18)));
        assert_eq!(version("linux"), None);
        assert!(Version(5, 18) < Version(6, 0) && Version(6, 9) < Version(6, 18));
    }

    #[test]
    fn a_setting_is_read_by_its_name() {
        assert!(
            setting("kernel.osrelease").is_ok_and(|release| Version::parse(&release).is_some())
        );
        let error = setting("net.core.flowsluice").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
