//! `cargo xtask package`: a .deb and a .rpm of the collector, and of the engine that it embeds.
//!
//! In: the release binary, deploy/, grafana/, sql/, the pinned ClickHouse library. Out, in
//! `target/package`: `flowsluice` and `flowsluice-clickhouse`, each as both. `--check` installs
//! them in a fresh Debian that boots in namespaces, and uses them there.

mod check;
mod clickhouse;
mod collector;
mod deb;
mod licences;
mod manual;
mod rpm;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;

use crate::debian::{self, Program};
use crate::{engine, shell};

use tree::Tree;

/// What takes the debugging information off, makes packages and compresses manuals.
const PROGRAMS: [Program; 4] = [
    Program {
        name: "objcopy",
        package: "binutils",
    },
    Program {
        name: "dpkg-deb",
        package: "dpkg",
    },
    Program {
        name: "rpmbuild",
        package: "rpm",
    },
    Program {
        name: "gzip",
        package: "gzip",
    },
];

/// Arguments of `cargo xtask package`.
#[derive(clap::Args)]
pub struct Args {
    /// Cargo's profile of the binary.
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
    /// A binary that is already built; nothing is compiled.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The version that the packages have; without it the workspace's.
    #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// A libchdb.so that is already here; its hash is not checked.
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// Install, use, upgrade, remove and purge them in a fresh Debian that boots in namespaces.
    /// Takes minutes and root, and fetches that Debian.
    #[arg(long)]
    check: bool,
}

/// One package: what is in it and what is said of it.
struct Package<'a> {
    name: &'static str,
    version: &'a str,
    /// What it wants, as Debian's control file says it.
    control: String,
    /// Its maintainer scripts and further control files in deploy/package/deb.
    scripts: &'static [&'static str],
    /// Paths that dpkg keeps as an administrator changed them.
    conffiles: &'static [&'static str],
    /// How dpkg-deb compresses it.
    compression: [&'static str; 2],
    tree: Tree,
}

/// Makes the packages, and checks them where that is wanted.
pub fn main(args: &Args) -> Result<()> {
    let missing = debian::provide(&PROGRAMS)?;
    ensure!(missing.is_empty(), "{}", debian::remedy(&missing));
    let library = engine::obtain(args.library.as_deref())?;
    let binary = binary(args)?;
    let out = place::target().join("package");
    std::fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    let packages = [
        collector::package(&binary, &args.version, &out)?,
        clickhouse::package(&binary, &library, &out)?,
    ];
    let (mut debs, mut rpms) = (Vec::new(), Vec::new());
    for package in &packages {
        debs.push(deb::make(package, &out)?);
        rpms.push(rpm::make(package, &out)?);
    }
    for made in debs.iter().chain(&rpms) {
        println!("{}", made.display());
    }
    std::fs::remove_dir_all(out.join("work")).context("remove the packages' trees")?;
    if args.check {
        // The same again, as the version that comes after it.
        let (version, folder) = (format!("{}+later", args.version), out.join("later"));
        let later = collector::package(&binary, &version, &folder)?;
        check::run(&check::Packages {
            collector: &debs[0],
            engine: &debs[1],
            later: &deb::make(&later, &folder)?,
            rpms: [&rpms[0], &rpms[1]],
        })?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// The binary that was given, or a fresh one.
fn binary(args: &Args) -> Result<PathBuf> {
    if let Some(binary) = &args.binary {
        ensure!(
            binary.is_file(),
            "--binary: {}: no such file",
            binary.display()
        );
        return Ok(binary.canonicalize()?);
    }
    let mut build = shell::cargo(&["build", "--locked", "-p", "flowsluice", "--profile"]);
    shell::run(build.arg(&args.profile))?;
    let folder = match args.profile.as_str() {
        "dev" => "debug",
        name => name,
    };
    Ok(place::target().join(folder).join("flowsluice"))
}

/// What `command` prints; it must succeed.
fn output(command: &mut std::process::Command) -> Result<String> {
    let line = shell::line(command);
    let output = command.output().with_context(|| format!("start {line}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {}\n{said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The newest version of the C library that a program or library asks for.
fn glibc(file: &Path) -> Result<String> {
    let mut readelf = std::process::Command::new("readelf");
    let needs = output(readelf.args(["--version-info", "--wide"]).arg(file))?;
    newest_glibc(&needs).with_context(|| format!("{}: no GLIBC_2", file.display()))
}

/// `0x0020:   Name: GLIBC_2.34  Flags: none  Version: 13`
fn newest_glibc(needs: &str) -> Option<String> {
    let words = needs.split_whitespace();
    let minors = words.filter_map(|word| word.strip_prefix("GLIBC_2.")?.parse::<u32>().ok());
    Some(format!("2.{}", minors.max()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_c_library_is_the_largest_number() {
        let needs = "0x10: Name: GLIBC_2.9  Flags: none  Version: 3\n\
                     0x20: Name: GLIBC_2.34  Flags: none  Version: 2\n\
                     0x30: Name: GLIBC_2.2.5  Flags: none  Version: 4\n\
                     0x40: Name: GCC_4.2.0  Flags: none  Version: 5\n";
        assert_eq!(newest_glibc(needs).as_deref(), Some("2.34"));
        assert_eq!(newest_glibc("static"), None);
    }
}
