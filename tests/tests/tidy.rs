//! The shape of the source: what a compiler does not look at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flowsluice_tests::place;

/// Everything at the top level, dotfiles, lock and licence files aside.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "README.md",
    "benches",
    "collector",
    "collector-ebpf",
    "deploy",
    "grafana",
    "sql",
    "tests",
    "xtask",
];
/// Files that stand beside them.
const BESIDE: [&str; 6] = [
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];
/// Made from data, a line an entry: as long as the data.
const GENERATED: [&str; 1] = ["collector/src/decode/elements/table.rs"];
const FILE_LINES_MAX: usize = 500;
const LINE_MAX: usize = 100;
/// Where `unsafe` is allowed, and why.
const UNSAFE: [(&str, &str); 9] = [
    (
        "collector/src/receive/",
        "system calls and buffers shared with the kernel",
    ),
    (
        "collector/src/store/embedded",
        "set-up of the child process",
    ),
    ("collector/src/cli/engine.rs", "dlopen and calling C"),
    ("collector/src/host/allocator.rs", "malloc_trim"),
    ("collector/src/host/ethtool.rs", "ioctl"),
    ("collector/src/host/memory_lock.rs", "mlock"),
    ("collector/tests/", "counting allocators"),
    (
        "collector-ebpf/src/program.rs",
        "the program that runs in the kernel",
    ),
    (
        "benches/src/veth/kernel.rs",
        "frames that the kernel makes, network namespaces",
    ),
];

/// Every source file of the workspace, relative to its top.
fn sources() -> Result<Vec<(PathBuf, String)>> {
    let root = place::root();
    let mut folders: Vec<_> = ["collector", "collector-ebpf", "xtask", "tests", "benches"]
        .map(|name| root.join(name))
        .into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                files.push((path.strip_prefix(&root)?.to_path_buf(), text));
            }
        }
    }
    assert!(files.len() > 20, "the sources are found");
    Ok(files)
}

/// Is this file all tests?
fn is_test(path: &Path) -> bool {
    let is_in_tests = path.iter().rev().skip(1).any(|folder| folder == "tests");
    is_in_tests || path.ends_with("tests.rs")
}

/// The part of a file above its unit tests.
fn without_tests(text: &str) -> &str {
    text.split_once("\n#[cfg(test)]\nmod ")
        .map_or(text, |(code, _)| code)
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn nothing_else_stands_at_the_top_level() -> Result<()> {
    // Git knows what belongs to the project; what builds and editors leave does not count.
    let output = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(place::root())
        .output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        place::skip("git is not here, or this is no clone");
        return Ok(());
    };
    let listed = String::from_utf8(output.stdout)?;
    let found: BTreeSet<_> = (listed.lines())
        .filter_map(|line| line.split('/').next())
        .filter(|name| !name.starts_with('.') && !BESIDE.contains(name))
        .collect();
    let extra: Vec<_> = found
        .iter()
        .filter(|name| !TOP_LEVEL.contains(name))
        .collect();
    assert!(extra.is_empty(), "not allowed at the top level: {extra:?}");
    Ok(())
}

#[test]
fn files_and_lines_stay_short() -> Result<()> {
    let mut found = Vec::new();
    for (path, text) in sources()? {
        let lines = without_tests(&text).lines().count();
        let shown = path.display();
        let is_generated = GENERATED.iter().any(|listed| path == Path::new(listed));
        if lines > FILE_LINES_MAX && !is_test(&path) && !is_generated {
            found.push(format!(
                "{shown}: {lines} lines without tests, at most {FILE_LINES_MAX}"
            ));
        }
        for (number, line) in text.lines().enumerate() {
            let width = line.chars().count();
            let is_link = line.contains("://");
            if width > LINE_MAX && !is_link {
                found.push(format!("{shown}:{}: {width} characters wide", number + 1));
            }
        }
    }
    assert_none("too long", &found);
    Ok(())
}

#[test]
fn nothing_is_left_to_do_and_nothing_prints_for_debugging() -> Result<()> {
    // Put together here so that this file does not find itself.
    let words = ["TO", "FIX", "XX"].map(|word| match word {
        "TO" => format!("{word}DO"),
        "FIX" => format!("{word}ME"),
        _ => format!("{word}X"),
    });
    let macros = ["todo", "dbg", "unimplemented"].map(|name| format!("{name}!("));
    let mut found = Vec::new();
    for (path, text) in sources()? {
        for (number, line) in text.lines().enumerate() {
            let is_word = |word: &String| {
                line.split(|c: char| !c.is_alphanumeric())
                    .any(|part| part == word)
            };
            let left = words.iter().any(is_word) || macros.iter().any(|name| line.contains(name));
            if left {
                found.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert_none("left to do", &found);
    Ok(())
}

#[test]
fn unsafe_code_is_only_where_it_is_listed() -> Result<()> {
    let mut found = Vec::new();
    for (path, text) in sources()? {
        let path = path.to_str().context("paths are UTF-8")?;
        let allowed = UNSAFE.iter().any(|(listed, _)| path.starts_with(listed));
        let is_unsafe = |line: &str| {
            let code = line.split("//").next().unwrap_or("").trim_start();
            let code = code.split('"').step_by(2).collect::<String>();
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|form| code.contains(form))
        };
        for (number, line) in text.lines().enumerate() {
            if !allowed && is_unsafe(line) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert_none("unsafe outside the listed files", &found);
    Ok(())
}

#[test]
fn no_file_names_this_machine_or_a_registry() -> Result<()> {
    let root = place::root();
    let listed = sources()?.into_iter().map(|(path, _)| path);
    let more = [
        ".ci/run",
        ".cargo/config.toml",
        "Cargo.toml",
        "README.md",
        "collector-ebpf/flowsluice.bpf.o",
    ];
    // Put together here so that this file does not find itself.
    let names = [
        ["/work", "/"].concat(),
        ["registry.", "npmjs"].concat(),
        ["static.", "crates.io"].concat(),
        ["index.", "crates.io"].concat(),
        ["file.", "deb.debian.org"].concat(),
        ["/.cargo", "/registry"].concat(),
    ];
    let mut found = Vec::new();
    for path in listed.chain(more.map(PathBuf::from)) {
        let Ok(bytes) = std::fs::read(root.join(&path)) else {
            // Not every file of `more` must be there.
            assert!(more.map(Path::new).contains(&path.as_path()));
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            if names.iter().any(|name| line.contains(name.as_str())) {
                found.push(format!(
                    "{}:{}: {}",
                    path.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    assert_none("names a machine or a registry", &found);
    Ok(())
}
