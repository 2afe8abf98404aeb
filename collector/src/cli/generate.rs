//! `flowsluice generate`.

/// Arguments of `flowsluice generate`.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("generate is being built")
}
