//! The form of a package that Fedora, Red Hat and SUSE take.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flowsluice_tests::place;

use super::{Package, output};
use crate::shell;

/// What is in the path of a folder that the packages bring.
const OWN: [&str; 3] = ["flowsluice", "flowsluice-clickhouse", "fish"];

/// Makes `NAME-VERSION-RELEASE.x86_64.rpm` in `out`.
pub fn make(package: &Package, out: &Path) -> Result<PathBuf> {
    let name = package.name;
    // '-' stands between version and release, and in neither.
    let (version, release) = package
        .version
        .split_once('-')
        .unwrap_or((package.version, "1"));
    let work = out.join("work/rpm");
    let files = out.join(format!("work/{name}.files"));
    std::fs::write(&files, list(package)?)?;
    let spec = place::root().join(format!("deploy/package/rpm/{name}.spec"));
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", "x86_64-linux"]);
    let defined = [
        ("_topdir", work.display().to_string()),
        ("_rpmdir", out.display().to_string()),
        (
            "_build_name_fmt",
            "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm".to_owned(),
        ),
        ("version_", version.to_owned()),
        ("release_", release.to_owned()),
        ("stage", package.tree.root().display().to_string()),
        ("file_list", files.display().to_string()),
    ];
    for (key, value) in defined {
        rpmbuild.arg("--define").arg(format!("{key} {value}"));
    }
    shell::run(rpmbuild.arg(spec))?;
    std::fs::remove_dir_all(&work).context("remove what rpmbuild left")?;
    let made = out.join(format!("{name}-{version}-{release}.x86_64.rpm"));
    // That it can be read again.
    output(
        Command::new("rpm")
            .args(["-qpl", "--nosignature"])
            .arg(&made),
    )?;
    Ok(made)
}

/// The files that the spec does not name itself.
fn list(package: &Package) -> Result<String> {
    let mut files = package.tree.files()?;
    files.retain(|path| !package.conffiles.contains(&path.as_str()));
    // Debian's folder; the spec moves it.
    files.retain(|path| !path.starts_with("/usr/share/zsh/"));
    // Folders that no other package need have: they go with their last file.
    let folders: BTreeSet<_> = files
        .iter()
        .flat_map(|path| Path::new(path).ancestors().skip(1))
        .filter(|folder| folder.iter().any(|name| OWN.iter().any(|own| name == *own)))
        .collect();
    let folders = folders
        .iter()
        .map(|folder| format!("%dir \"{}\"\n", folder.display()));
    let lines = files.iter().map(|path| format!("\"{path}\"\n"));
    Ok(folders.chain(lines).collect())
}
