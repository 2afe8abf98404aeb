//! What the collector is built of: licences and sources as `deny.toml` allows them, and a bill of
//! materials that names all of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::{crates, place};
use serde_json::Value;

/// Those of the workspace and of others.
fn packages() -> Result<Vec<Value>> {
    let metadata = crates::metadata()?;
    let packages = metadata["packages"].as_array().context("packages")?;
    ensure!(packages.len() > 100, "only {} packages", packages.len());
    Ok(packages.clone())
}

fn deny() -> Result<toml::Table> {
    let text = std::fs::read_to_string(place::root().join("deny.toml"))?;
    Ok(text.parse()?)
}

/// The texts of a list of `deny.toml`.
fn listed(deny: &toml::Table, table: &str, key: &str) -> Result<BTreeSet<String>> {
    let list = deny[table][key].as_array().context("a list")?;
    let texts = list.iter().filter_map(|one| one.as_str());
    Ok(texts.map(str::to_owned).collect())
}

/// Whether an SPDX expression can be fulfilled with the licences that are allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Older manifests write '/' for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ");
    let spaced = spaced.replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let is_fulfilled = either(&mut words, allowed);
    is_fulfilled && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut is_fulfilled = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        // Both sides are read, whatever the first one is.
        is_fulfilled |= both(words, allowed);
    }
    is_fulfilled
}

fn both(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut is_fulfilled = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_fulfilled &= one(words, allowed);
    }
    is_fulfilled
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let is_fulfilled = either(words, allowed);
        return words.next_if_eq(&")").is_some() && is_fulfilled;
    }
    let Some(name) = words.next() else {
        return false;
    };
    let mut name = name.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

#[test]
fn expressions_of_licences_are_understood() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    let allowed = allowed.map(str::to_owned).into();
    for fine in [
        "MIT",
        "GPL-3.0/MIT",
        "GPL-3.0 OR MIT",
        "MIT AND ISC",
        "(GPL-3.0 OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(fine, &allowed), "{fine}");
    }
    for other in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "Apache-2.0",
        "(MIT",
        "MIT ISC",
    ] {
        assert!(!is_allowed(other, &allowed), "{other}");
    }
}

#[test]
fn every_package_has_an_allowed_licence_comes_from_the_registry_and_is_not_banned() -> Result<()> {
    let deny = deny()?;
    let allowed = listed(&deny, "licenses", "allow")?;
    let registries = listed(&deny, "sources", "allow-registry")?;
    let banned = deny["bans"]["deny"].as_array().context("a list")?;
    let banned = banned.iter().filter_map(|one| one["name"].as_str());
    let banned: BTreeSet<_> = banned.collect();
    ensure!(!banned.is_empty());
    let mut used = BTreeSet::new();
    for package in packages()? {
        let name = package["name"].as_str().unwrap_or_default();
        ensure!(!banned.contains(name), "{name} is banned");
        let licence = package["license"].as_str().unwrap_or_default();
        ensure!(is_allowed(licence, &allowed), "{name}: licence {licence:?}");
        let with = |one: &&String| licence.contains(one.as_str());
        used.extend(allowed.iter().filter(with).cloned());
        // Those of this repository have no source.
        if let Some(source) = package["source"].as_str() {
            let registry = source.strip_prefix("registry+").unwrap_or(source);
            ensure!(registries.contains(registry), "{name}: from {source}");
        }
    }
    let unused: Vec<_> = allowed.difference(&used).collect();
    ensure!(
        unused.is_empty(),
        "deny.toml allows what nobody has: {unused:?}"
    );
    Ok(())
}
