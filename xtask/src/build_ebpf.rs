//! `cargo xtask build-ebpf`: the XDP program, an object that the collector embeds.
//!
//! The object is committed, so that whoever builds the collector needs no BPF toolchain. Two
//! toolchains make objects that do the same and differ in bytes, so the committed one is pinned to
//! the route that Debian's packages alone allow: rustc with a `core` for BPF that is built already,
//! and bpf-linker on Debian's LLVM. Where that cannot be had, rustup's nightly with `rust-src`
//! serves to try a change out. `--check` builds by the pinned route and compares.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;

use crate::debian::{self, Program};
use crate::{generated, shell};

/// The pinned route, as Debian 12 has it; a package is known by a file of its.
const PACKAGES: [Program; 4] = [
    Program {
        name: RUSTC,
        package: "rustc-web",
    },
    Program {
        name: "/usr/bin/cargo",
        package: "cargo-web",
    },
    Program {
        name: "/usr/share/doc/libstd-rust-web-dev-bpf/copyright",
        package: "libstd-rust-web-dev-bpf",
    },
    Program {
        name: "/usr/lib/llvm-22/bin/llvm-config",
        package: "llvm-22-dev",
    },
];
const RUSTC: &str = "/usr/bin/rustc";
const RUSTC_VERSION: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)";
const LLVM: &str = "/usr/lib/llvm-22";
const LINKER: &str = "bpf-linker";
const LINKER_VERSION: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";
const BINARY: &str = "flowsluice-xdp";

/// Builds the object, or checks it.
pub fn main(args: &generated::Args) -> Result<()> {
    if args.check {
        return check();
    }
    let built = match unavailable()? {
        None => by_debian()?,
        Some(remedy) if has_nightly() => {
            eprintln!(
                "xtask: built by rustup's nightly, which gives other bytes than the pinned route: \
                 not to be committed ({remedy})"
            );
            by_nightly()?
        }
        Some(remedy) => bail!(
            "the XDP program needs a BPF toolchain; {remedy}, or 'rustup toolchain install nightly \
             --component rust-src' and 'cargo install {LINKER}'"
        ),
    };
    let object = object();
    fs::copy(&built, &object).with_context(|| format!("write {}", object.display()))?;
    eprintln!("xtask: wrote {}", object.display());
    Ok(())
}

/// Why [`check`] cannot run here, after an attempt to install what is missing; `None` when it can.
pub fn unavailable() -> Result<Option<String>> {
    let missing = debian::provide(&PACKAGES)?;
    Ok((!missing.is_empty()).then(|| debian::remedy(&missing)))
}

/// Fails when the committed object is not what its source builds to.
pub fn check() -> Result<()> {
    if let Some(remedy) = unavailable()? {
        bail!("the XDP program's object cannot be checked; {remedy}");
    }
    let built = by_debian()?;
    let object = object();
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    ensure!(
        read(&built)? == read(&object)?,
        "{} is not what collector-ebpf builds to; run 'cargo xtask build-ebpf' and commit it",
        object.display()
    );
    eprintln!("xtask: {} is what its source builds to", object.display());
    Ok(())
}

/// The committed object.
fn object() -> PathBuf {
    place::root().join("collector-ebpf/flowsluice.bpf.o")
}

/// The pinned route.
fn by_debian() -> Result<PathBuf> {
    let version = Command::new(RUSTC).arg("--version").output();
    let version = version.with_context(|| format!("start {RUSTC}"))?.stdout;
    let version = String::from_utf8_lossy(&version).trim().to_owned();
    if version != RUSTC_VERSION {
        eprintln!(
            "xtask: {RUSTC} is {version}, not {RUSTC_VERSION}: another version may give other bytes"
        );
    }
    let linker = linker()?;
    let mut cargo = build("/usr/bin/cargo", &linker)?;
    cargo.env("RUSTC", RUSTC);
    // aya-ebpf uses inline assembly of BPF, which is unstable; it alone may.
    cargo.env("RUSTC_BOOTSTRAP", "aya_ebpf");
    shell::run(&mut cargo)?;
    Ok(built())
}

/// rustup's: `core` is built from its source.
fn by_nightly() -> Result<PathBuf> {
    let linker = place::program(LINKER).with_context(|| {
        format!("{LINKER} is missing; run 'cargo install {LINKER} --version {LINKER_VERSION}'")
    })?;
    let mut cargo = build("cargo", &linker)?;
    cargo.args(["-Z", "build-std=core"]);
    cargo.env("RUSTUP_TOOLCHAIN", "nightly");
    shell::run(&mut cargo)?;
    Ok(built())
}

/// Has rustup a nightly with the source of `core`?
fn has_nightly() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    rustc.env("RUSTUP_TOOLCHAIN", "nightly");
    let Some(output) = rustc.output().ok().filter(|output| output.status.success()) else {
        return false;
    };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
    Path::new(sysroot.trim()).join(core).is_file()
}

/// bpf-linker, built once a clone.
fn linker() -> Result<PathBuf> {
    let folder = place::target().join(LINKER).join(LINKER_VERSION);
    let linker = folder.join("bin").join(LINKER);
    if linker.is_file() {
        return Ok(linker);
    }
    let mut install = shell::cargo(&["install", LINKER, "--version", LINKER_VERSION]);
    install.args(["--locked", "--no-default-features", "--features", "llvm-22"]);
    install.arg("--root").arg(&folder);
    // Other versions of LLVM may be here too.
    install.env("LLVM_PREFIX", LLVM);
    without_outer_cargo(&mut install);
    shell::run(&mut install)?;
    Ok(linker)
}

/// The command that builds the program, up to what the routes do differently.
fn build(cargo: &str, linker: &Path) -> Result<Command> {
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--package", "collector-ebpf"]);
    command.args(["--bin", BINARY, "--features", "program", "--release"]);
    command.args(["--target", TARGET, "--target-dir"]);
    command.arg(place::target().join("bpf"));
    without_outer_cargo(&mut command);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(linker)?);
    Ok(command)
}

/// What the command left.
fn built() -> PathBuf {
    let folder = place::target().join("bpf").join(TARGET);
    folder.join("release").join(BINARY)
}

/// The same object from every machine: paths are those of no machine. Without debugging
/// information, which is ten times the program, it changes only when instructions do.
fn flags(linker: &Path) -> Result<OsString> {
    let mut flags = vec![
        OsString::from(r#"--cfg=bpf_target_arch="x86_64""#),
        "-Cdebuginfo=0".into(),
    ];
    let mut add = |flag: &str, path: &Path, to: &str| {
        let mut word = OsString::from(flag);
        word.push(path);
        word.push(to);
        flags.push(word);
    };
    add("-Clinker=", linker, "");
    add("--remap-path-prefix=", &place::root(), "=/src");
    let home = place::variable("CARGO_HOME");
    let home = home.or_else(|| Some(place::variable("HOME")?.join(".cargo")));
    let home = home.context("CARGO_HOME or HOME says where crates are")?;
    // One folder a registry, named after its host.
    let registries = fs::read_dir(home.join("registry/src"));
    for registry in registries.into_iter().flatten().flatten() {
        add("--remap-path-prefix=", &registry.path(), "=/crates");
    }
    Ok(flags.join(std::ffi::OsStr::new("\u{1f}")))
}

/// Takes away what the cargo that runs this program has set for its own toolchain.
fn without_outer_cargo(command: &mut Command) {
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTFLAGS",
        "LD_LIBRARY_PATH",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(name);
    }
}
