//! `cargo xtask`: Flowsluice's tasks.

fn main() {}
