//! `flowsluice replay`.

/// Arguments of `flowsluice replay`.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("replay is being built")
}
