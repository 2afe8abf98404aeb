//! What the documents for operators name is there: reasons, metrics, keys, commands, files.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use flowsluice_tests::{metrics, place};

/// The same guide in two languages.
const GUIDES: [&str; 2] = ["deploy/troubleshooting.md", "deploy/ja/troubleshooting.md"];
/// Those whose links are followed.
const LINKED: [&str; 12] = [
    "README.md",
    "benches/RESULTS.md",
    "collector/ARCHITECTURE.md",
    "deploy/backup.md",
    "deploy/ja/README.md",
    "deploy/ja/troubleshooting.md",
    "deploy/metrics.md",
    "deploy/scale-out.md",
    "deploy/security.md",
    "deploy/troubleshooting.md",
    "grafana/README.md",
    "sql/README.md",
];
const CONFIG: &str = "deploy/flowsluice.toml";

fn read(document: &str) -> Result<String> {
    let path = place::root().join(document);
    std::fs::read_to_string(path).with_context(|| format!("read {document}"))
}

/// All words of a text that could be names.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect()
}

/// The names of metrics in a guide.
fn metrics(guide: &str) -> BTreeSet<&str> {
    let mut found = names(guide);
    let prefixes = ["flowsluice_", "process_"];
    found.retain(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    found
}

/// What stands between two backticks of a line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The keys of the configuration in a guide, and its tables.
fn keys(guide: &str) -> BTreeSet<&str> {
    let tables = ["receive", "decode", "enrich", "batch", "store", "http"];
    let first = quoted(guide).filter_map(|text| text.split(' ').next());
    let is_key = |text: &&str| {
        let table = text.split_once('.').map(|(table, _)| table);
        table.is_some_and(|table| tables.contains(&table)) && !text.ends_with(':')
    };
    first.filter(is_key).collect()
}

/// The subcommands in a guide, within its lines and as lines of their own.
fn commands(guide: &str) -> BTreeSet<&str> {
    let typed = guide.lines().filter_map(|line| line.strip_prefix("$ "));
    let all = quoted(guide).chain(typed);
    all.filter_map(|text| text.strip_prefix("flowsluice ")?.split(' ').next())
        .collect()
}

/// The keys and tables that the documented configuration has.
fn known_keys(config: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut table = "";
    for line in config.lines().map(|line| line.trim_start_matches('#')) {
        if let Some(rest) = line.strip_prefix('[') {
            table = rest.trim_matches(['[', ']']);
            known.insert(table.to_owned());
        } else if let Some((key, _)) = line.split_once(" = ") {
            known.insert(format!("{table}.{key}"));
        }
    }
    known
}

/// The relative links of a document.
fn links(document: &str) -> impl Iterator<Item = &str> {
    let ends = document.split("](").skip(1);
    ends.filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.starts_with('#'))
}

/// What a running collector says: its reasons of drops, and its metrics as samples have them.
struct Told {
    reasons: Vec<String>,
    metrics: BTreeSet<String>,
}

impl Told {
    /// Of a collector that has everything to tell of: two servers, which are away.
    fn by_a_collector() -> Result<Self> {
        let collector = metrics::teller()?;
        let status = collector.status()?;
        let reasons = status.at("/ledger/dropped").and_then(|at| at.as_object());
        let page = collector.page("/metrics")?;
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let metrics = types.filter_map(|line| match line.split_once(' ')? {
            (name, "counter") => Some(format!("{name}_total")),
            (name, _) => Some(name.to_owned()),
        });
        Ok(Self {
            reasons: reasons.context("reasons")?.keys().cloned().collect(),
            metrics: metrics.collect(),
        })
    }
}

#[test]
fn guides_explain_every_reason_of_a_drop_and_name_no_metric_that_is_not_there() -> Result<()> {
    let told = Told::by_a_collector()?;
    assert!(told.reasons.len() > 20 && told.metrics.len() > 100);
    for guide in GUIDES {
        let text = read(guide)?;
        let named = names(&text);
        let missing: Vec<_> = (told.reasons.iter())
            .filter(|reason| !named.contains(reason.as_str()))
            .collect();
        assert!(missing.is_empty(), "{guide} does not tell of {missing:?}");
        let strange: Vec<_> = (metrics(&text).into_iter())
            .filter(|name| !told.metrics.contains(*name))
            .collect();
        assert!(strange.is_empty(), "{guide}: no such metric: {strange:?}");
    }
    Ok(())
}

#[test]
fn the_page_of_metrics_is_what_a_collector_says() -> Result<()> {
    let made = metrics::page(&metrics::told()?);
    let remedy = "run 'cargo xtask metrics'";
    let committed = read(metrics::PAGE)?;
    for (committed, made) in committed.lines().zip(made.lines()) {
        assert_eq!(committed, made, "{remedy}");
    }
    assert_eq!(committed.lines().count(), made.lines().count(), "{remedy}");
    Ok(())
}

#[test]
fn guides_name_keys_and_commands_that_are_there() -> Result<()> {
    let config = read(CONFIG)?;
    let known = known_keys(&config);
    let output = Command::new(place::binary()?).arg("--help").output()?;
    let help = String::from_utf8(output.stdout)?;
    let subcommands = names(&help);
    for guide in GUIDES {
        let text = read(guide)?;
        let found = keys(&text);
        assert!(found.len() > 40, "{guide}: {found:?}");
        for key in found {
            assert!(known.contains(key), "{guide}: {CONFIG} has no {key}");
        }
        for command in commands(&text) {
            let is_there = subcommands.contains(command);
            assert!(is_there, "{guide}: no such command: {command}");
        }
    }
    Ok(())
}

#[test]
fn guides_in_both_languages_tell_of_the_same_things() -> Result<()> {
    let [english, japanese] = [read(GUIDES[0])?, read(GUIDES[1])?];
    assert_eq!(metrics(&english), metrics(&japanese));
    assert_eq!(keys(&english), keys(&japanese));
    assert_eq!(commands(&english), commands(&japanese));
    Ok(())
}

#[test]
fn links_lead_to_files() -> Result<()> {
    let root = place::root();
    for document in LINKED {
        let text = read(document)?;
        let folder = Path::new(document).parent().context("it is in a folder")?;
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            let is_there = root.join(folder).join(file).exists();
            assert!(is_there, "{document}: {link} leads nowhere");
        }
    }
    Ok(())
}
