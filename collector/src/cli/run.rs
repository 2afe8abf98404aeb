//! `flowsluice run`.

/// Arguments of `flowsluice run`.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("run is being built")
}
