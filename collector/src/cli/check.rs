//! `flowsluice check`.

/// Arguments of `flowsluice check`.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("check is being built")
}
