//! `flowsluice query`.

/// Arguments of `flowsluice query`.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("query is being built")
}
