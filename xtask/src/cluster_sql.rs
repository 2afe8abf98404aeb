//! `cargo xtask cluster-sql`: the schema of a cluster, from the schema of one server.
//!
//! Each migration of `sql/` becomes one of the same number in `sql/cluster/`. A table `x` becomes
//! the replicated `x_local`, which collectors write to, and the distributed `x` over the `x_local`
//! of all shards, which people ask. So do views, since one may ask what its shard has and others
//! have not. A materialized view reads and writes local tables. Every statement runs `ON CLUSTER`.
//! `--check` fails when what is committed is not what would be written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;
use flowsluice_tests::sql::{migrations, statements};

use crate::generated;

use forms::{DATABASE, FORMS, Form, name_of, parted};

/// The collector's own, since what it cannot read is no statement of a migration.
#[path = "../../collector/src/store/schema/forms.rs"]
mod forms;

/// Makes the files, or checks them.
pub fn main(args: &generated::Args) -> Result<()> {
    if args.check {
        return check();
    }
    let to = folder().join("cluster");
    fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    for (name, text) in made()? {
        let path = to.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        eprintln!("xtask: wrote {}", path.display());
    }
    Ok(())
}

/// Fails when a committed file is not what would be written.
pub fn check() -> Result<()> {
    let made = made()?;
    let committed = migrations(&folder().join("cluster"))?;
    for (name, text) in &made {
        let is_same = committed.get(name) == Some(text);
        ensure!(
            is_same,
            "sql/cluster/{name} is not what sql/{name} makes; run 'cargo xtask cluster-sql' and \
             commit the result"
        );
    }
    let extra = committed.keys().find(|name| !made.contains_key(*name));
    if let Some(name) = extra {
        bail!("sql/cluster/{name} comes from no migration; remove it");
    }
    Ok(())
}

fn folder() -> PathBuf {
    place::root().join("sql")
}

fn made() -> Result<BTreeMap<String, String>> {
    let mut schema = Schema::default();
    let mut made = BTreeMap::new();
    for (name, sql) in migrations(&folder())? {
        let mut text = format!("-- Made from ../{name} by 'cargo xtask cluster-sql': edit that.\n");
        for statement in statements(&sql) {
            let on_cluster = schema.on_cluster(&statement);
            for one in on_cluster.with_context(|| format!("sql/{name}: {statement}"))? {
                let _ = writeln!(text, "{one};\n");
            }
        }
        text.pop();
        made.insert(name, text);
    }
    Ok(made)
}

/// The same rows on every node, whatever its shard.
const EVERYWHERE: [&str; 2] = ["schema_migrations", "ingress_only"];
/// Seconds that a replica knows a block's token: a week, longer than any spool should take. The
/// server's default is an hour.
const WINDOW_SECONDS: u32 = 7 * 24 * 3600;
/// Tokens that migrations have a table remember, and those that a cluster's tables do: on one
/// server the collector raises the number by itself.
const WINDOW_BLOCKS: [&str; 2] = ["1000", "10000"];
/// Follows each name that is made or changed.
const ON_CLUSTER: &str = " ON CLUSTER '{cluster}'";

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `x_local` and `x`.
    Sharded,
    /// One table on all nodes.
    Everywhere,
    /// A table of each node by itself, which holds nothing.
    Passing,
    /// `x_local`, which reads what it is asked for of its shard, and `x` over those of all shards.
    View,
    /// A view that writes what it reads.
    Materialized,
}

/// The names that statements so far have made.
#[derive(Default)]
struct Schema(BTreeMap<String, Kind>);

impl Schema {
    /// What becomes of a statement.
    fn on_cluster(&mut self, statement: &str) -> Result<Vec<String>> {
        // An INSERT ... SELECT, say, would be run on the one node that is asked.
        let Some((form, begin, name, rest)) = parted(statement) else {
            let begins = FORMS.map(|(begin, _)| begin);
            bail!("no statement that can run on a cluster; it begins with one of {begins:?}");
        };
        let renamed = |name: &str, rest: &str| format!("{begin}{DATABASE}{name}{ON_CLUSTER}{rest}");
        match form {
            Form::Table => self.table(name, rest),
            Form::Materialized => {
                self.0.insert(name.into(), Kind::Materialized);
                // Every replica refreshes it by itself.
                ensure!(
                    !rest.contains("REFRESH ") || rest.ends_with("ORDER BY ALL"),
                    "a refreshed view has to end with ORDER BY ALL: ClickHouse then knows what two \
                     replicas insert alike for one block, and stores it once"
                );
                Ok(vec![renamed(name, &self.local(rest))])
            }
            Form::View => {
                self.0.insert(name.into(), Kind::View);
                let local = format!("{name}_local");
                let table = begin.replace("VIEW", "TABLE");
                Ok(vec![
                    renamed(&local, &self.local(rest)),
                    distributed(&table, name, "rand()"),
                ])
            }
            Form::Alter => self.alter(name, rest),
            Form::Drop => match self.0.remove(name) {
                Some(Kind::Sharded | Kind::View) => Ok(vec![
                    format!("DROP TABLE IF EXISTS {DATABASE}{name}{ON_CLUSTER}{rest}"),
                    renamed(&format!("{name}_local"), rest),
                ]),
                Some(_) => Ok(vec![renamed(name, rest)]),
                None => bail!("nothing of the name {name} was made before"),
            },
        }
    }

    fn table(&mut self, name: &str, rest: &str) -> Result<Vec<String>> {
        let is_everywhere = EVERYWHERE.contains(&name);
        let (columns, rest) = (rest.strip_prefix("\n("))
            .and_then(|rest| rest.split_once("\n)\nENGINE = "))
            .context("no list of columns with the engine behind it")?;
        if rest == "Null" {
            self.0.insert(name.into(), Kind::Passing);
            let create = "CREATE TABLE IF NOT EXISTS ";
            return Ok(vec![format!(
                "{create}{DATABASE}{name}{ON_CLUSTER}\n({columns}\n)\nENGINE = Null"
            )]);
        }
        let (engine, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        let (engine, arguments) = match engine.split_once('(') {
            Some((engine, arguments)) => (engine, format!(", {arguments}")),
            None => (engine, ")".into()),
        };
        ensure!(
            engine.ends_with("MergeTree"),
            "{engine} has no replicated form"
        );
        let local = match is_everywhere {
            true => name.to_owned(),
            false => format!("{name}_local"),
        };
        let (shard, replica) = match is_everywhere {
            true => ("everywhere", "{shard}-{replica}"),
            false => ("{shard}", "{replica}"),
        };
        let settings = replicated_settings(rest);
        let create = "CREATE TABLE IF NOT EXISTS ";
        let mut made = vec![format!(
            "{create}{DATABASE}{local}{ON_CLUSTER}\n({columns}\n)\n\
             ENGINE = Replicated{engine}('/clickhouse/tables/{shard}/{{database_text}}/{local}', \
             '{replica}'{arguments}\n{settings}"
        )];
        let mut kind = Kind::Everywhere;
        if !is_everywhere {
            kind = Kind::Sharded;
            let has_exporter = columns
                .lines()
                .any(|line| line.trim_start().starts_with("exporter_addr "));
            let key = match has_exporter {
                true => "cityHash64(exporter_addr)",
                false => "rand()",
            };
            made.push(distributed(create, name, key));
        }
        self.0.insert(name.into(), kind);
        Ok(made)
    }

    fn alter(&self, name: &str, rest: &str) -> Result<Vec<String>> {
        let kind = self.0.get(name);
        let kind = kind.with_context(|| format!("no table {name} was made before"))?;
        let altered =
            |name: &str, rest: &str| format!("ALTER TABLE {DATABASE}{name}{ON_CLUSTER}{rest}");
        let commands: Vec<_> = rest
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let is_of_columns = |command: &&&str| {
            let mut words = command.split(' ');
            words.next();
            words.next() == Some("COLUMN")
        };
        let of_columns = commands.iter().filter(is_of_columns).count();
        let local = altered(&format!("{name}_local"), &replicated_settings(rest));
        match kind {
            Kind::View => bail!("{name} is a view: drop it and make it anew"),
            Kind::Everywhere | Kind::Passing => Ok(vec![altered(name, rest)]),
            Kind::Materialized => Ok(vec![altered(name, &self.local(rest))]),
            Kind::Sharded if of_columns == 0 => Ok(vec![local]),
            Kind::Sharded if of_columns < commands.len() => {
                bail!(
                    "columns and other things in one ALTER: the distributed table has columns only"
                )
            }
            // Who asks for a column finds it in the tables below.
            Kind::Sharded if rest.contains("DROP COLUMN") => Ok(vec![altered(name, rest), local]),
            Kind::Sharded => Ok(vec![local, altered(name, rest)]),
        }
    }

    /// `text` with the local table in place of each that is sharded. What is read keeps its name,
    /// for the columns that name it.
    fn local(&self, text: &str) -> String {
        let mut out = String::new();
        let mut pieces = text.split(DATABASE);
        out.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (name, rest) = name_of(piece);
            let is_read = ["FROM ", "JOIN "].iter().any(|word| out.ends_with(word));
            let _ = write!(out, "{DATABASE}{name}");
            if matches!(self.0.get(name), Some(Kind::Sharded | Kind::View)) {
                out.push_str("_local");
                if is_read && !rest.trim_start().starts_with("AS ") {
                    let _ = write!(out, " AS {name}");
                }
            }
            out.push_str(rest);
        }
        out
    }
}

/// The table or view `x` that asks the `x_local` of all shards.
fn distributed(create: &str, name: &str, key: &str) -> String {
    format!(
        "{create}{DATABASE}{name}{ON_CLUSTER} AS {DATABASE}{name}_local\n\
         ENGINE = Distributed('{{cluster}}', '{{database_text}}', '{name}_local', {key})"
    )
}

/// The windows of tokens are settings of another name where tables are replicated.
fn replicated_settings(text: &str) -> String {
    const PLAIN: &str = "non_replicated_deduplication_window = ";
    let Some((before, rest)) = text.split_once(PLAIN) else {
        return text.to_owned();
    };
    let end = rest.find(|c: char| !c.is_ascii_digit());
    let (blocks, rest) = rest.split_at(end.unwrap_or(rest.len()));
    let [usual, raised] = WINDOW_BLOCKS;
    let blocks = if blocks == usual { raised } else { blocks };
    format!(
        "{before}replicated_deduplication_window = {blocks},\n    \
         replicated_deduplication_window_seconds = {WINDOW_SECONDS}{rest}"
    )
}

#[cfg(test)]
mod tests;
