//! What packages and containers are made of holds together. That the packages install and run is
//! for `cargo xtask package --check` to show.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::place;
use flowsluice_tests::program::{run_in, said};
use serde_json::Value;

#[test]
fn maintainer_scripts_are_scripts() -> Result<()> {
    let deploy = place::root().join("deploy");
    let scripts = [
        "package/deb/postinst",
        "package/deb/prerm",
        "package/deb/postrm",
        "compose/passwords",
    ];
    for script in scripts {
        let output = Command::new("sh")
            .arg("-n")
            .arg(deploy.join(script))
            .output()?;
        ensure!(output.status.success(), "{script}: {}", said(&output));
    }
    Ok(())
}

#[test]
fn what_compose_mounts_is_there() -> Result<()> {
    let deploy = place::root().join("deploy");
    let text = fs::read_to_string(deploy.join("compose.yml"))?;
    let compose: Value = serde_saphyr::from_str(&text)?;
    let services = compose["services"].as_object().context("services")?;
    let mut mounted = 0;
    for (name, service) in services {
        for volume in service["volumes"].as_array().context("volumes")? {
            let volume = volume.as_str().context("a volume")?;
            let (from, _) = volume.split_once(':').context("SOURCE:TARGET")?;
            if from.starts_with('.') {
                ensure!(deploy.join(from).exists(), "{name}: {from} is not there");
                mounted += 1;
            } else {
                let is_named = compose["volumes"].get(from).is_some();
                ensure!(is_named, "{name}: volume {from} is not named");
            }
        }
    }
    ensure!(mounted > 5, "only {mounted} files and folders");
    Ok(())
}

#[test]
fn the_collector_of_compose_accepts_its_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = place::root().join("deploy/compose/flowsluice.toml");
    let password = folder.path().join("password");
    fs::write(&password, "secret\n")?;
    let text = fs::read_to_string(&file)?;
    let inside = "\"/run/secrets/collector\"";
    ensure!(text.contains(inside), "{}", file.display());
    let outside = format!("{:?}", Path::new(&password));
    fs::write(
        folder.path().join("flowsluice.toml"),
        text.replace(inside, &outside),
    )?;
    let check = run_in(folder.path(), &["check", "--config", "flowsluice.toml"])?;
    ensure!(check.status.success(), "{}", said(&check));
    Ok(())
}

#[test]
fn the_command_line_is_told() -> Result<()> {
    let output = run_in(Path::new("/"), &["command-line"])?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let commands = told["commands"].as_array().context("commands")?;
    let names: Vec<_> = commands.iter().map(|one| &one["name"]).collect();
    ensure!(names.contains(&&Value::from("run")), "{names:?}");
    ensure!(
        !names.contains(&&Value::from("engine")),
        "hidden: {names:?}"
    );
    let arguments = commands
        .iter()
        .filter_map(|one| one["arguments"].as_array());
    let without_help = arguments.flatten().filter(|one| one["help"].is_null());
    ensure!(
        without_help.count() == 0,
        "an argument without a word on it"
    );
    Ok(())
}
