//! `cargo xtask sbom`: what the collector's binary is built of, as a CycloneDX bill of materials.
//!
//! In: `cargo metadata` and the checksums of `Cargo.lock`. Out: one JSON document, the same for the
//! same lock file. Crates only: the embedded ClickHouse is a package of its own with its own origin
//! (`cargo xtask engine`), and the kernel and the C library are the host's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use flowsluice_tests::{crates, place};
use serde_json::{Value, json};

/// Arguments of `cargo xtask sbom`.
#[derive(clap::Args)]
pub struct Args {
    /// The file to write; without it target/flowsluice.cdx.json.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the document.
pub fn main(args: &Args) -> Result<()> {
    let default = || place::root().join("target/flowsluice.cdx.json");
    let path = args.output.clone().unwrap_or_else(default);
    let lock = fs::read_to_string(place::root().join("Cargo.lock"))?;
    let document = document(&crates::metadata()?, &checksums(&lock)?)?;
    let crates = document["components"].as_array().map_or(0, Vec::len);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&document)? + "\n";
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("xtask: wrote {}: {crates} crates", path.display());
    Ok(())
}

/// SHA-256 of each crate, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = lock.parse()?;
    let packages = lock["package"].as_array().context("packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let all = packages.iter().filter_map(|package| {
        let name = (text(package, "name")?, text(package, "version")?);
        Some((name, text(package, "checksum")?))
    });
    Ok(all.collect())
}

/// The collector's dependencies that end up in its binary, by the id that cargo gives them, and
/// what each needs itself.
fn reached(metadata: &Value, root: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("nodes")?;
    let mut needs = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(id) = waiting.pop() {
        if needs.contains_key(&id) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id.as_str());
        let node = node.with_context(|| format!("{id} is not resolved"))?;
        let is_linked = |dependency: &&Value| {
            let kinds = dependency["dep_kinds"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
        };
        let all = node["deps"].as_array().into_iter().flatten();
        let linked = all.filter(is_linked);
        let linked = linked.filter_map(|dependency| dependency["pkg"].as_str());
        let linked: BTreeSet<_> = linked.map(str::to_owned).collect();
        waiting.extend(linked.iter().cloned());
        needs.insert(id, linked);
    }
    Ok(needs)
}

/// The bill of materials (CycloneDX 1.5).
fn document(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let packages = metadata["packages"].as_array().context("packages")?;
    let root = packages
        .iter()
        .find(|package| package["name"] == "flowsluice");
    let root = root.context("the collector is no package")?;
    let root_id = root["id"].as_str().context("an id")?;
    let needs = reached(metadata, root_id)?;
    let used = |package: &&Value| {
        package["id"]
            .as_str()
            .is_some_and(|id| needs.contains_key(id))
    };
    let of_id: BTreeMap<_, _> = packages
        .iter()
        .filter(used)
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let url = |id: &String| of_id.get(id.as_str()).map(|package| purl(package));
    let mut components: Vec<_> = of_id
        .values()
        .filter(|package| package["id"] != root_id)
        .map(|package| component(package, "library", checksums))
        .collect();
    components.sort_by_key(|component| component["purl"].as_str().map(str::to_owned));
    let mut dependencies: Vec<_> = needs
        .iter()
        .map(|(id, needed)| {
            let needed: BTreeSet<_> = needed.iter().filter_map(url).collect();
            json!({"ref": url(id), "dependsOn": needed})
        })
        .collect();
    dependencies.sort_by_key(|one| one["ref"].as_str().map(str::to_owned));
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(root, "application", checksums)},
        "components": components,
        "dependencies": dependencies,
    }))
}

/// A package URL: what other programs know a crate by.
fn purl(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    // A '+' in a version would be read as a space.
    let version = text("version").replace('+', "%2B");
    format!("pkg:cargo/{}@{version}", text("name"))
}

fn component(package: &Value, kind: &str, checksums: &BTreeMap<(String, String), String>) -> Value {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let url = purl(package);
    let mut component = json!({
        "type": kind,
        "bom-ref": url,
        "name": text("name"),
        "version": text("version"),
        "purl": url,
    });
    // Older manifests write '/' for OR, which is no expression.
    let licence = text("license").replace('/', " OR ");
    if !licence.is_empty() {
        component["licenses"] = json!([{"expression": licence}]);
    }
    let name = (text("name").to_owned(), text("version").to_owned());
    if let Some(sum) = checksums.get(&name) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bill_names_each_crate_of_the_binary_once_with_licence_and_checksum() {
        let lock = fs::read_to_string(place::root().join("Cargo.lock")).unwrap();
        let document = document(&crates::metadata().unwrap(), &checksums(&lock).unwrap()).unwrap();
        let components = document["components"].as_array().unwrap();
        let names: Vec<_> = components
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        for linked in ["rustls", "tokio", "clickhouse", "collector-ebpf"] {
            assert!(names.contains(&linked), "{linked}");
        }
        for other in ["proptest", "tempfile", "flowsluice-tests", "flowsluice"] {
            assert!(!names.contains(&other), "{other} is not linked");
        }
        let refs: BTreeSet<_> = components
            .iter()
            .map(|one| one["bom-ref"].as_str())
            .collect();
        assert_eq!(refs.len(), components.len(), "each once");
        for one in components {
            assert!(one["licenses"][0]["expression"].is_string(), "{one}");
            let is_ours = one["name"] == "collector-ebpf";
            assert_ne!(one["hashes"].is_array(), is_ours, "{one}");
        }
        let all = document["dependencies"].as_array().unwrap();
        let needed = all
            .iter()
            .flat_map(|one| one["dependsOn"].as_array().unwrap());
        for needed in needed {
            assert!(refs.contains(&needed.as_str()), "{needed} is no component");
        }
    }
}
