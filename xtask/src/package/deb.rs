//! Debian's form of a package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flowsluice_tests::place;

use super::tree::{Tree, set_mode};
use super::{Package, output};
use crate::shell;

/// Who answers for it, as a control file wants it.
const MAINTAINER: &str = "Flowsluice <root@localhost>";

/// Makes `NAME_VERSION_amd64.deb` in `out`.
pub fn make(package: &Package, out: &Path) -> Result<PathBuf> {
    let Package { name, version, .. } = package;
    let folder = out.join(format!("work/{name}-control"));
    let control = Tree::new(folder)?;
    control.write("control", text(package))?;
    control.write("md5sums", sums(&package.tree)?)?;
    if !package.conffiles.is_empty() {
        let lines = package.conffiles.iter().map(|path| format!("{path}\n"));
        control.write("conffiles", lines.collect::<String>())?;
    }
    for script in package.scripts {
        let from = place::root().join("deploy/package/deb").join(script);
        let mode = if *script == "triggers" { 0o644 } else { 0o755 };
        control.copy(&from, script, mode)?;
    }
    let made = out.join(format!("{name}_{version}_amd64.deb"));
    // dpkg-deb wants the control files among the others.
    let inside = package.tree.root().join("DEBIAN");
    fs::rename(control.root(), &inside).context("move the control files")?;
    set_mode(&inside, 0o755)?;
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--root-owner-group").args(package.compression);
    let built = shell::run(dpkg.arg("--build").arg(package.tree.root()).arg(&made));
    fs::remove_dir_all(&inside).context("remove the control files")?;
    built.map(|()| made)
}

fn text(package: &Package) -> String {
    let Package {
        name,
        version,
        control,
        tree,
        ..
    } = package;
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {}\nPriority: optional\n{control}",
        tree.kib()
    )
}

/// What `dpkg --verify` compares.
fn sums(tree: &Tree) -> Result<String> {
    let files = tree.files()?;
    let mut md5sum = Command::new("md5sum");
    md5sum.arg("--").current_dir(tree.root());
    md5sum.args(files.iter().map(|path| path.trim_start_matches('/')));
    output(&mut md5sum)
}
