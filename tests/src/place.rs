//! Where things are: the clone, the binary under test, the ClickHouse library, free ports.

use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The top folder of the clone that this kit was built from.
#[must_use]
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target"))
}

/// The path in an environment variable, unless that is unset or empty.
#[must_use]
pub fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The binary under test: the one of FLOWSLUICE_BINARY, else the one built beside this program.
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = variable("FLOWSLUICE_BINARY") {
        return Ok(path);
    }
    let me = std::env::current_exe().context("where this program is")?;
    let found = me
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("flowsluice"))
        .find(|path| path.is_file());
    found.context("the binary flowsluice is not built; run 'cargo build -p flowsluice'")
}

/// The ClickHouse library: the one of FLOWSLUICE_LIBCHDB, else where `cargo xtask engine` keeps it.
#[must_use]
pub fn engine_library() -> Option<PathBuf> {
    let path = variable("FLOWSLUICE_LIBCHDB").unwrap_or_else(|| target().join("engine/libchdb.so"));
    path.is_file().then_some(path)
}

/// The ClickHouse library, or a skipped test that says so.
#[must_use]
pub fn engine_or_skip() -> Option<PathBuf> {
    let library = engine_library();
    if library.is_none() {
        skip("libchdb.so is not here; run 'cargo xtask engine'");
    }
    library
}

/// A database of places or autonomous systems that `cargo xtask test` keeps.
#[must_use]
pub fn geo_database(name: &str) -> Option<PathBuf> {
    let path = target().join("geo").join(name);
    path.is_file().then_some(path)
}

/// A database of places, or a skipped test that says so.
#[must_use]
pub fn geo_database_or_skip(name: &str) -> Option<PathBuf> {
    let found = geo_database(name);
    if found.is_none() {
        skip(&format!("{name} is not here; run 'cargo xtask test'"));
    }
    found
}

/// A program of the system, or a skipped test that says so.
#[must_use]
pub fn program_or_skip(name: &str, package: &str) -> Option<PathBuf> {
    let found = program(name);
    if found.is_none() {
        skip(&format!(
            "{name} is not here; run 'apt-get install {package}'"
        ));
    }
    found
}

/// Where `cargo xtask test` keeps programs whose packages it does not install.
#[must_use]
pub fn programs() -> PathBuf {
    target().join("programs")
}

/// Finds a program on PATH, in the folders for the administrator, and among [`programs`].
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), programs()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Says why a test does not run. Under CI that is a failure.
///
/// # Panics
/// When the environment variable CI is set.
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "cannot run, and under CI it must: {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// A UDP port that nobody has on IPv4 or IPv6.
///
/// # Errors
/// When the kernel has none.
pub fn free_udp_port() -> Result<u16> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).context("bind a free UDP port")?;
    Ok(socket.local_addr()?.port())
}

/// Is this UDP port free on every address?
#[must_use]
pub fn udp_port_is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok()
}

/// A TCP port of 127.0.0.1 that nobody has: `wanted` if it is free.
///
/// # Errors
/// When the kernel has none.
pub fn free_tcp_port(wanted: u16) -> Result<u16> {
    for port in [wanted, 0] {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?.port());
        }
    }
    bail!("no free TCP port on 127.0.0.1")
}
