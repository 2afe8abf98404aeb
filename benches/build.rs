//! Tells the program which compiler it was built with: its figures depend on it.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").expect("cargo names the compiler to build scripts");
    let output = Command::new(rustc).arg("--version").output();
    let output = output.expect("the compiler that builds this says its version");
    let version = String::from_utf8_lossy(&output.stdout);
    println!("cargo::rustc-env=FLOWSLUICE_RUSTC={}", version.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
