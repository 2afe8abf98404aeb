//! The licences of what the collector is made of: every library that cargo links into it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flowsluice_tests::crates;
use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Library>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Library {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    authors: Vec<String>,
    manifest_path: String,
    /// Where it came from; the workspace's own came from nowhere.
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None of a library that is linked.
    kind: Option<String>,
}

/// How the files begin that say what a library may be used for.
const FILES: [&str; 5] = ["license", "licence", "copying", "copyright", "notice"];

/// One document: each library with its licence, then each text once.
pub fn text() -> Result<String> {
    let metadata = serde_json::from_value(crates::metadata()?);
    let metadata: Metadata = metadata.context("cargo metadata")?;
    let linked = linked(&metadata)?;
    let mut libraries: Vec<_> = (metadata.packages.iter())
        .filter(|one| linked.contains(one.id.as_str()) && one.source.is_some())
        .collect();
    libraries.sort_by_key(|one| (&one.name, &one.version));
    let mut texts: BTreeMap<String, usize> = BTreeMap::new();
    let mut document = format!(
        "Flowsluice is made of {} libraries of others. Each with its licence; the texts that came \
         with it follow, each once.\n\n",
        libraries.len()
    );
    for library in libraries {
        let found = files(library)?;
        ensure!(
            library.license.is_some() || !found.is_empty(),
            "{} {}: it says nothing of its licence",
            library.name,
            library.version
        );
        let numbers = found.into_iter().map(|text| {
            let next = texts.len() + 1;
            texts.entry(text).or_insert(next).to_string()
        });
        let numbers: Vec<_> = numbers.collect();
        document.push_str(&entry(library, &numbers));
    }
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by_key(|(_, number)| *number);
    for (text, number) in texts {
        writeln!(document, "\n---------- text {number} ----------\n\n{text}")?;
    }
    Ok(document)
}

fn entry(library: &Library, texts: &[String]) -> String {
    let Library { name, version, .. } = library;
    let licence = library.license.as_deref().unwrap_or("see its text");
    let from = library.repository.as_deref().unwrap_or("-");
    let texts = match texts {
        [] => format!(
            "none came with it; its authors: {}",
            library.authors.join(", ")
        ),
        texts => texts.join(", "),
    };
    format!("{name} {version}\n  licence: {licence}\n  from: {from}\n  texts: {texts}\n")
}

/// The ids of all that ends up in the binary.
fn linked(metadata: &Metadata) -> Result<BTreeSet<&str>> {
    let nodes: BTreeMap<_, _> = (metadata.resolve.nodes.iter())
        .map(|node| (node.id.as_str(), node))
        .collect();
    let own = |one: &&Library| one.name == "flowsluice" && one.source.is_none();
    let root = metadata.packages.iter().find(own);
    let mut next = vec![root.context("no package flowsluice")?.id.as_str()];
    let mut linked = BTreeSet::new();
    while let Some(id) = next.pop() {
        if !linked.insert(id) {
            continue;
        }
        let node = nodes
            .get(id)
            .with_context(|| format!("{id}: not resolved"))?;
        let is_linked = |edge: &&Edge| edge.dep_kinds.iter().any(|one| one.kind.is_none());
        next.extend(
            node.deps
                .iter()
                .filter(is_linked)
                .map(|edge| edge.pkg.as_str()),
        );
    }
    Ok(linked)
}

fn files(library: &Library) -> Result<Vec<String>> {
    let folder = Path::new(&library.manifest_path).parent();
    let folder = folder.context("a manifest is in a folder")?;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let lower = name.to_lowercase();
        if entry.file_type()?.is_file() && FILES.iter().any(|begin| lower.starts_with(begin)) {
            let text = String::from_utf8_lossy(&fs::read(entry.path())?).into_owned();
            found.insert(name, text.trim_end().to_owned());
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linked_library_is_named_with_its_licence() {
        let text = text().expect("cargo metadata");
        assert!(text.contains("\naya 0."), "the collector's");
        assert!(!text.contains("\nproptest "), "of tests alone");
        assert!(text.contains("\n---------- text 1 ----------\n"));
    }
}
