//! What tasks that make committed files have in common.

/// Arguments of a task that makes committed files.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail when the committed files are not what would be written.
    #[arg(long)]
    pub check: bool,
}
