//! A Debian of its own in a folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::output;
use super::saw;

/// What it has beside the least of Debian: an init, and the exporter.
const INCLUDED: &str = "systemd,systemd-sysv,dbus,iproute2,procps,softflowd";

/// What changes by itself, or is the package manager's memory.
const NOT_LISTED: [&str; 9] = [
    "dev",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache",
    "var/lib/dpkg",
    "var/lib/systemd",
    "var/log",
];
/// Who is a user here.
const USERS: [&str; 4] = ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"];

/// The folder; removed with the value.
pub struct Root {
    folder: PathBuf,
}

/// Every path with its owner, and the lines that say who is a user.
#[derive(PartialEq, Eq)]
pub struct Listing(BTreeSet<String>);

impl Listing {
    /// What is here and not in `before`, or the other way round.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let more = self.0.difference(&before.0).map(|one| format!("+ {one}"));
        let less = before.0.difference(&self.0).map(|one| format!("- {one}"));
        more.chain(less).collect()
    }
}

impl Root {
    /// Makes one from the packages that this host's apt knows.
    pub fn fresh(folder: &Path) -> Result<Self> {
        let root = Self {
            folder: folder.to_path_buf(),
        };
        root.remove()?;
        let (codename, mirror) = source()?;
        let kept = folder.with_file_name("debian");
        fs::create_dir_all(&kept)?;
        eprintln!("xtask: debootstrap {codename}, a minute or three");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .args(["--variant=minbase", &format!("--include={INCLUDED}")])
            .arg(format!("--cache-dir={}", kept.display()))
            .arg(&codename)
            .args([folder.as_os_str(), mirror.as_ref()]);
        output(&mut debootstrap)?;
        saw(&format!("a fresh Debian {codename}"));
        Ok(root)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path of it, seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }

    /// Puts a file where `inside` says that it is.
    pub fn bring(&self, file: &Path) -> Result<()> {
        let to = self.path(&inside(file));
        fs::copy(file, &to).with_context(|| format!("copy {}", file.display()))?;
        Ok(())
    }

    /// Runs a command in it without booting it.
    pub fn chroot(&self, words: &[&str]) -> Result<String> {
        let mut chroot = Command::new("chroot");
        chroot.arg(&self.folder).args(words).env("LC_ALL", "C");
        output(chroot.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
    }

    /// What is there.
    pub fn listing(&self) -> Result<Listing> {
        let mut all = BTreeSet::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path.strip_prefix(&self.folder)?.display().to_string();
                if NOT_LISTED.contains(&name.as_str()) {
                    continue;
                }
                let about = path.symlink_metadata()?;
                all.insert(format!("/{name} of user {}", about.uid()));
                if about.is_dir() {
                    folders.push(path);
                }
            }
        }
        for file in USERS {
            let text = fs::read_to_string(self.folder.join(file)).context(file)?;
            all.extend(text.lines().map(|line| format!("{file}: {line}")));
        }
        Ok(Listing(all))
    }

    fn remove(&self) -> Result<()> {
        if self.folder.exists() {
            let removed = fs::remove_dir_all(&self.folder);
            removed.with_context(|| format!("remove {}", self.folder.display()))?;
        }
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Where a file that was brought is, seen from inside.
pub fn inside(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    format!("/opt/{}", name.to_string_lossy())
}

/// The name of this host's Debian, and where its apt takes that from.
fn source() -> Result<(String, String)> {
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.context("/etc/os-release has no VERSION_CODENAME")?;
    let mut apt = Command::new("apt-get");
    let format = "$(CREATED_BY) $(CODENAME) $(COMPONENT) $(SITE)";
    let targets = output(apt.args(["indextargets", "--format", format]))?;
    let wanted = format!("Packages {codename} main ");
    let mirror = targets.lines().find_map(|line| line.strip_prefix(&wanted));
    let mirror = mirror.with_context(|| format!("apt has no source of {codename} main"))?;
    ensure!(
        !mirror.is_empty(),
        "apt does not tell where it takes packages from"
    );
    Ok((codename.to_owned(), mirror.to_owned()))
}
