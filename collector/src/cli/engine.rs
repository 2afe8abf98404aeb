//! `flowsluice engine`.

/// Arguments of `flowsluice engine`.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("engine is being built")
}
