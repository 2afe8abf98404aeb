//! `flowsluice import`: a configuration made of another collector's settings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flowsluice::config;
use flowsluice::import::elastiflow::{self, Imported, Report};

/// Arguments of `flowsluice import`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Take over the settings of ElastiFlow OSS 4.0 (Logstash).
    ///
    /// Reads elastiflow.conf (the drop-in of the service), app_id.srctype.yml,
    /// sampling_interval.yml, ifName.yml, applications.yml, ip_rep_whitelist.yml and which inputs
    /// of conf.d are on. Tells what it took over, what has no counterpart and what it cannot read.
    Elastiflow(Elastiflow),
}

#[derive(clap::Args)]
struct Elastiflow {
    /// Folders, searched with those in them, such as /etc/logstash/elastiflow and
    /// /etc/systemd/system/logstash.service.d; or files
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// The configuration to write; the files that it names are written beside it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "flowsluice-import/flowsluice.toml"
    )]
    output: PathBuf,
    /// Folder that the written files will be in, if they are copied elsewhere afterwards: the
    /// configuration names them there [default: the folder of --output]
    #[arg(long, value_name = "DIR")]
    install_dir: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
}

/// # Errors
/// When something cannot be read or written, or a line of the settings is not understood; what is
/// understood is written all the same.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Command::Elastiflow(args) = args.command;
    elastiflow(&args)
}

fn elastiflow(args: &Elastiflow) -> anyhow::Result<()> {
    let output = std::path::absolute(&args.output).context("--output")?;
    let folder = output.parent().context("--output: it names no file")?;
    let installed = args.install_dir.as_deref().unwrap_or(folder);
    ensure!(
        installed.is_absolute(),
        "--install-dir: {} is not absolute; write it from '/' on",
        installed.display()
    );
    let imported = elastiflow::import(&args.folders, installed)?;
    let Imported {
        configuration,
        files,
        report,
    } = &imported;
    print(report);
    let checked = config::parse(&output.display().to_string(), configuration);
    checked
        .context("what was made of the settings is no valid configuration; nothing is written")?;
    let mut written = vec![(output.clone(), configuration)];
    for (name, contents) in files {
        written.push((folder.join(name), contents));
    }
    write(folder, &written, args.force)?;
    println!("\nwritten:");
    for (path, _) in &written {
        println!("  {}", path.display());
    }
    if installed != folder {
        let (from, to) = (folder.display(), installed.display());
        println!("copy them from {from} to {to}, where the configuration expects them");
    }
    println!("next: flowsluice check --config {}", output.display());
    if !report.odd.is_empty() {
        bail!(
            "import: {} settings could not be read and are not taken over; all others are written",
            report.odd.len()
        );
    }
    Ok(())
}

fn print(report: &Report) {
    let parts = [
        ("taken over", &report.taken),
        ("not taken over", &report.left),
        ("not understood", &report.odd),
    ];
    for (title, lines) in parts {
        if lines.is_empty() {
            continue;
        }
        println!("{title}:");
        for line in lines {
            println!("  {line}");
        }
    }
}

/// Writes all of them, or none when one is there and may not be written over.
fn write(folder: &Path, files: &[(PathBuf, &String)], force: bool) -> anyhow::Result<()> {
    if !force {
        for (path, _) in files {
            ensure!(
                fs::symlink_metadata(path).is_err(),
                "{} is there; --force writes over it, --output names another folder",
                path.display()
            );
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (path, contents) in files {
        fs::write(path, contents)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
