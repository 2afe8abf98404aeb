//! `cargo xtask package --check`: the packages in a fresh Debian with a booted systemd.
//!
//! The claim: they install, collect, are confined, lose nothing at a stop, are upgraded with what
//! an administrator changed, and a purge leaves nothing. In: the .debs and .rpms, Debian by this
//! host's apt.

mod geoip;
mod machine;
mod packages;
mod root;
mod rpms;
mod service;
mod traffic;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use flowsluice_tests::place;

use crate::debian::{self, Program};

use machine::Machine;
use root::Root;

/// What makes a Debian, boots it, and looks into it.
const PROGRAMS: [Program; 4] = [
    Program {
        name: "debootstrap",
        package: "debootstrap",
    },
    Program {
        name: "systemd-nspawn",
        package: "systemd-container",
    },
    Program {
        name: "nsenter",
        package: "util-linux",
    },
    Program {
        name: "setpriv",
        package: "util-linux",
    },
];

/// The packages to be checked.
pub struct Packages<'a> {
    pub collector: &'a Path,
    pub engine: &'a Path,
    /// The collector's again, of a later version.
    pub later: &'a Path,
    /// The collector and its engine as rpm takes them.
    pub rpms: [&'a Path; 2],
}

impl<'a> Packages<'a> {
    /// The collector and its engine.
    fn debs(&self) -> [&'a Path; 2] {
        [self.collector, self.engine]
    }

    /// Each in both forms.
    fn both(&self) -> impl Iterator<Item = (&'a Path, &'a Path)> {
        self.debs().into_iter().zip(self.rpms)
    }
}

/// Does all of it; what was seen is printed a line a step.
pub fn run(packages: &Packages) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "--check makes a root folder and boots it: run it as root"
    );
    let missing = debian::provide(&PROGRAMS)?;
    ensure!(missing.is_empty(), "{}", debian::remedy(&missing));
    let started = Instant::now();
    rpms::are_as_debs(packages)?;
    let root = Root::fresh(&place::target().join("package/root"))?;
    for deb in [packages.collector, packages.engine, packages.later] {
        root.bring(deb)?;
    }
    rpms::in_a_chroot(&root, packages)?;
    packages::in_a_chroot(&root, packages)?;
    let machine = Machine::boot(&root)?;
    let outcome = booted(&machine, packages);
    if outcome.is_err() {
        eprintln!("{}", machine.journal());
    }
    outcome?;
    eprintln!(
        "xtask: all as it shall be, in {} s",
        started.elapsed().as_secs()
    );
    Ok(())
}

fn booted(machine: &Machine, packages: &Packages) -> Result<()> {
    let before = machine.root().listing()?;
    packages::install(machine, packages)?;
    service::is_confined(machine)?;
    traffic::of_softflowd(machine)?;
    traffic::is_asked_by_dashboards(machine)?;
    service::is_reloaded(machine)?;
    geoip::is_updated(machine)?;
    traffic::outlasts_a_stop(machine)?;
    service::gives_the_engine_no_capability(machine)?;
    service::is_watched(machine)?;
    service::refuses_a_wrong_configuration(machine)?;
    packages::upgrade(machine, packages)?;
    packages::remove_and_purge(machine, &before)?;
    packages::one_after_the_other(machine, packages, &before)
}

/// One line of what was seen.
fn saw(what: &str) {
    eprintln!("xtask: seen: {what}");
}
