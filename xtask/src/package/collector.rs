//! The package of the collector: the binary and everything around it but the engine.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use flowsluice_tests::place;

use super::tree::Tree;
use super::{Package, glibc, licences, manual};
use crate::shell;

const BINARY: &str = "/usr/bin/flowsluice";
const CONFIGURATION: &str = "/etc/flowsluice/flowsluice.toml";
const DOCUMENTS: &str = "/usr/share/doc/flowsluice";
const SCHEMA: &str = "/usr/share/flowsluice/flowsluice.schema.json";

/// Files of the clone, and where they lie on a host.
const FILES: [(&str, &str); 10] = [
    ("deploy/flowsluice.schema.json", SCHEMA),
    (
        "deploy/flowsluice.service",
        "/usr/lib/systemd/system/flowsluice.service",
    ),
    (
        "deploy/flowsluice-geoip.service",
        "/usr/lib/systemd/system/flowsluice-geoip.service",
    ),
    (
        "deploy/flowsluice-geoip.timer",
        "/usr/lib/systemd/system/flowsluice-geoip.timer",
    ),
    (
        "deploy/flowsluice.sysctl.conf",
        "/usr/lib/sysctl.d/60-flowsluice.conf",
    ),
    ("README.md", "/usr/share/doc/flowsluice/README.md"),
    (
        "deploy/install.md",
        "/usr/share/doc/flowsluice/deploy/install.md",
    ),
    (
        "deploy/backup.md",
        "/usr/share/doc/flowsluice/deploy/backup.md",
    ),
    (
        "deploy/scale-out.md",
        "/usr/share/doc/flowsluice/deploy/scale-out.md",
    ),
    (
        "deploy/troubleshooting.md",
        "/usr/share/doc/flowsluice/deploy/troubleshooting.md",
    ),
];

/// Folders of the clone, likewise.
const FOLDERS: [(&str, &str); 4] = [
    ("sql", "/usr/share/flowsluice/sql"),
    (
        "grafana/dashboards",
        "/usr/share/flowsluice/grafana/dashboards",
    ),
    (
        "grafana/provisioning",
        "/usr/share/flowsluice/grafana/provisioning",
    ),
    ("deploy/ja", "/usr/share/doc/flowsluice/deploy/ja"),
];

/// Gathers it below `out`, and puts what debuggers want of the binary beside the packages.
pub fn package<'a>(binary: &Path, version: &'a str, out: &Path) -> Result<Package<'a>> {
    let root = place::root();
    let tree = Tree::new(out.join("work/flowsluice"))?;
    strip(
        binary,
        &tree,
        &out.join(format!("flowsluice_{version}_amd64.debug")),
    )?;
    for (from, to) in FILES {
        tree.copy(&root.join(from), to, 0o644)?;
    }
    for (from, to) in FOLDERS {
        tree.copy_folder(&root.join(from), to)?;
    }
    tree.write(CONFIGURATION, configuration(&root)?)?;
    tree.write(&format!("{DOCUMENTS}/copyright"), copyright(&root)?)?;
    tree.write(
        &format!("{DOCUMENTS}/third-party-licences.txt"),
        licences::text()?,
    )?;
    manual::add(binary, version, &tree)?;
    let control = format!(
        "Section: net\nDepends: libc6 (>= {}), libgcc-s1, passwd, init-system-helpers\n\
         Recommends: flowsluice-clickhouse\n\
         Description: flow collector: NetFlow, IPFIX and sFlow into ClickHouse\n \
         Routers and switches export NetFlow, IPFIX and sFlow to it. It decodes every\n \
         record, counts whatever it could not keep, and inserts the rows into\n \
         ClickHouse: a server, or the engine of the package flowsluice-clickhouse.\n",
        glibc(binary)?
    );
    Ok(Package {
        name: "flowsluice",
        version,
        control,
        scripts: &["postinst", "prerm", "postrm", "triggers"],
        conffiles: &[CONFIGURATION],
        compression: ["-Zxz", "-z6"],
        tree,
    })
}

/// The binary without debugging information, which goes to a file that it names.
fn strip(binary: &Path, tree: &Tree, debug: &Path) -> Result<()> {
    let mut keep = Command::new("objcopy");
    shell::run(keep.arg("--only-keep-debug").arg(binary).arg(debug))?;
    super::tree::set_mode(debug, 0o644)?;
    let installed = tree.place(BINARY)?;
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-debug");
    strip.arg(format!("--add-gnu-debuglink={}", debug.display()));
    shell::run(strip.arg(binary).arg(&installed))?;
    super::tree::set_mode(&installed, 0o755)
}

/// The documented configuration; its schema lies elsewhere than in the clone.
fn configuration(root: &Path) -> Result<String> {
    let path = root.join("deploy/flowsluice.toml");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rest = text.strip_prefix("#:schema ./flowsluice.schema.json\n");
    let rest = rest.context("deploy/flowsluice.toml does not begin with its schema")?;
    Ok(format!("#:schema {SCHEMA}\n{rest}"))
}

fn copyright(root: &Path) -> Result<String> {
    let mut text =
        "Flowsluice is licensed under the MIT licence or the Apache License 2.0, as you \
                    choose. The libraries that it is made of: see third-party-licences.txt.\n"
            .to_owned();
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let licence = std::fs::read_to_string(root.join(file)).context(file)?;
        text.push_str(&format!("\n---------- {file} ----------\n\n{licence}"));
    }
    Ok(text)
}
