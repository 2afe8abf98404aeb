//! What rpm does with the packages: Debian's own, since this root is no Fedora.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::output;
use super::packages::{BOTH, WANTED, is_clean};
use super::root::Root;
use super::{Packages, saw};

/// What rpm remembers, in the root.
const MEMORY: &str = "/var/lib/rpm";

/// The files of each .rpm are those of its .deb.
pub fn are_as_debs(packages: &Packages) -> Result<()> {
    let mut files = 0;
    for (deb, rpm) in packages.both() {
        let (of_deb, of_rpm) = (of_deb(deb)?, of_rpm(rpm)?);
        let one_sided: Vec<_> = of_deb.symmetric_difference(&of_rpm).collect();
        ensure!(one_sided.is_empty(), "{}: {one_sided:#?}", rpm.display());
        files += of_rpm.len();
    }
    saw(&format!(
        "{files} files in the .rpms, as in the .debs: paths, modes, owners, sizes"
    ));
    Ok(())
}

/// A line a file: mode, owner, size, path.
fn of_deb(deb: &Path) -> Result<BTreeSet<String>> {
    let said = output(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    let files = said.lines().filter(|line| !line.starts_with('d'));
    let file = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, size, _, _, path] = words[..] else {
            anyhow::bail!("dpkg-deb: {line}");
        };
        let path = path.trim_start_matches('.');
        // As the spec has it.
        let path = path.replace("/zsh/vendor-completions/", "/zsh/site-functions/");
        Ok(format!("{mode} {owner} {size} {path}"))
    };
    files.map(file).collect()
}

fn of_rpm(rpm: &Path) -> Result<BTreeSet<String>> {
    let line = "%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILESIZES} %{FILENAMES}";
    let mut query = Command::new("rpm");
    query.args(["--query", "--package", "--nosignature", "--queryformat"]);
    let said = output(query.arg(format!("[{line}\n]")).arg(rpm))?;
    let files = said.lines().filter(|line| !line.starts_with('d'));
    Ok(files.map(str::to_owned).collect())
}

/// Installed, verified and erased where no systemd runs. What they need is asked of nobody: the
/// root has no packages of rpm's that could have it.
pub fn in_a_chroot(root: &Root, packages: &Packages) -> Result<()> {
    let before = root.listing()?;
    let rpm = |arguments: &[&str]| -> Result<String> {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root")
            .arg(root.folder())
            .args(["--dbpath", MEMORY]);
        output(rpm.args(arguments))
    };
    let [collector, engine] = packages.rpms.map(|rpm| rpm.to_string_lossy());
    rpm(&[
        "--install",
        "--nodeps",
        "--nosignature",
        &collector,
        &engine,
    ])?;
    let is_enabled = root.path(WANTED).symlink_metadata().is_ok();
    ensure!(is_enabled, "the service is not enabled");
    rpm(&[&["--verify", "--nodeps"], &BOTH[..]].concat())?;
    root.chroot(&["flowsluice", "check"])?;
    root.chroot(&["id", "flowsluice"])?;
    rpm(&[&["--erase", "--nodeps"], &BOTH[..]].concat())?;
    // As everywhere with rpm the user stays.
    root.chroot(&["userdel", "flowsluice"])?;
    fs::remove_dir_all(root.path(MEMORY)).context(MEMORY)?;
    is_clean(&root.listing()?, &before)?;
    saw(".rpms by Debian's rpm: installed, enabled, verified, erased, nothing left but the user");
    Ok(())
}
