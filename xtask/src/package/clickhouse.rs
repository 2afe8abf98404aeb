//! The package of the engine: one library, and the licences of all that is in it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use super::{Package, glibc};
use crate::engine;

/// Where the collector looks.
const LIBRARY: &str = "/usr/lib/flowsluice/libchdb.so";
const DOCUMENTS: &str = "/usr/share/doc/flowsluice-clickhouse";

/// Gathers it below `out`.
pub fn package(binary: &Path, library: &Path, out: &Path) -> Result<Package<'static>> {
    let tree = Tree::new(out.join("work/flowsluice-clickhouse"))?;
    tree.copy(library, LIBRARY, 0o644)?;
    tree.write(&format!("{DOCUMENTS}/copyright"), COPYRIGHT)?;
    let licences = format!("{DOCUMENTS}/third-party-licences.txt");
    self::licences(binary, library, &tree.place(&licences)?)?;
    tree.compress(&licences)?;
    let control = format!(
        "Section: database\nDepends: libc6 (>= {})\nEnhances: flowsluice\n\
         Description: ClickHouse as a library, for Flowsluice\n \
         The database that Flowsluice runs as a child process where no server is\n \
         configured. It is loaded by the collector and by nothing else.\n",
        glibc(library)?
    );
    Ok(Package {
        name: "flowsluice-clickhouse",
        version: engine::VERSION,
        control,
        scripts: &[],
        conffiles: &[],
        // Minutes of xz would take a fifth off it.
        compression: ["-Zzstd", "-z3"],
        tree,
    })
}

const COPYRIGHT: &str = "\
libchdb.so is chDB, ClickHouse as a library.
Copyright: ClickHouse, Inc., Yandex LLC, and the authors of chDB
Licence: Apache-2.0. On Debian, /usr/share/common-licenses/Apache-2.0 has its text.

It holds libraries of others, each with a licence of its own: see third-party-licences.txt.gz,
which is what the engine itself tells (SELECT * FROM system.licenses).
";

/// Lets the engine write down the licences of what it is made of.
fn licences(binary: &Path, library: &Path, to: &Path) -> Result<()> {
    let query = format!(
        "SELECT concat(arrayStringConcat(arraySort(groupUniqArray(library_name)), ', '), '\\n\\n', \
         license_text, '\\n\\n----------\\n') FROM system.licenses GROUP BY license_text \
         ORDER BY min(library_name) INTO OUTFILE '{}' TRUNCATE FORMAT TSVRaw",
        to.display()
    );
    let mut ask = Command::new(binary);
    ask.arg("engine").arg("--library").arg(library).arg("--");
    ask.arg("--query").arg(query);
    eprintln!(
        "xtask: {} engine: SELECT ... FROM system.licenses",
        binary.display()
    );
    // It lives as long as its standard input, which is held here.
    let mut child = ask
        .stdin(Stdio::piped())
        .spawn()
        .context("start the engine")?;
    let held = child.stdin.take();
    let status = child.wait()?;
    drop(held);
    ensure!(
        status.success(),
        "the engine does not tell its licences: {status}"
    );
    ensure!(
        engine::size(to) > 1_000_000,
        "{}: too few licences",
        to.display()
    );
    super::tree::set_mode(to, 0o644)
}
