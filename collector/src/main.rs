//! `flowsluice`, the command.

fn main() {}
