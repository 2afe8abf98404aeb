//! `cargo xtask elements`: the information elements, from data to a table that the collector has.
//!
//! `collector/src/decode/elements/PEN-who.csv` say what each element is and what it fills; see the
//! README beside them. The table is committed, so that building the collector needs nothing of
//! this; `--check` makes it anew and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;

use crate::generated;

/// Makes the table, or checks it.
pub fn main(args: &generated::Args) -> Result<()> {
    if args.check {
        return check();
    }
    let path = table();
    fs::write(&path, generated()?).with_context(|| format!("write {}", path.display()))?;
    eprintln!("xtask: wrote {}", path.display());
    Ok(())
}

/// Fails when the committed table is not what the data say.
pub fn check() -> Result<()> {
    let path = table();
    let committed = fs::read_to_string(&path);
    let committed = committed.with_context(|| format!("read {}", path.display()))?;
    ensure!(
        committed == generated()?,
        "{} is not what the data beside it say; run 'cargo xtask elements' and commit it",
        path.display()
    );
    Ok(())
}

fn folder() -> PathBuf {
    place::root().join("collector/src/decode/elements")
}

fn table() -> PathBuf {
    folder().join("table.rs")
}

/// One line of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    name: String,
    /// As RFC 7012 section 3.1 spells it.
    data_type: String,
    /// The Rust expression of what it fills; empty when it fills nothing.
    fills: String,
}

/// The elements of each enterprise, by number.
type Enterprises = BTreeMap<u32, BTreeMap<u16, Row>>;

/// The text of `table.rs`.
fn generated() -> Result<String> {
    let mut enterprises = Enterprises::new();
    let mut files: Vec<_> = fs::read_dir(folder())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    for path in files {
        if path.extension().is_some_and(|extension| extension == "csv") {
            let text = fs::read_to_string(&path)?;
            let pen = enterprise(&path)?;
            let rows = enterprises.entry(pen).or_default();
            read(&text, rows).with_context(|| path.display().to_string())?;
        }
    }
    for (pen, rows) in &enterprises {
        let mut names = BTreeSet::new();
        let twice = rows.values().find(|row| !names.insert(&row.name));
        if let Some(Row { name, .. }) = twice {
            bail!("two elements of enterprise {pen} are called {name}; `extra` needs one");
        }
    }
    derive_reverse(&mut enterprises);
    Ok(write(&enterprises))
}

/// The number that the name of a file begins with.
fn enterprise(path: &Path) -> Result<u32> {
    let name = path.file_stem().and_then(|name| name.to_str());
    let pen = name.and_then(|name| name.split_once('-')?.0.parse().ok());
    pen.with_context(|| format!("{}: the name is not PEN-who.csv", path.display()))
}

const HEADER: &str = "id,name,type,semantics,target,width,rank,otherwise";

/// RFC 7012 section 3.1, with the additions of the IANA registry.
const TYPES: [&str; 24] = [
    "octetArray",
    "unsigned8",
    "unsigned16",
    "unsigned32",
    "unsigned64",
    "unsigned256",
    "signed8",
    "signed16",
    "signed32",
    "signed64",
    "float32",
    "float64",
    "boolean",
    "macAddress",
    "string",
    "dateTimeSeconds",
    "dateTimeMilliseconds",
    "dateTimeMicroseconds",
    "dateTimeNanoseconds",
    "ipv4Address",
    "ipv6Address",
    "basicList",
    "subTemplateList",
    "subTemplateMultiList",
];

/// Adds the lines of a file to `rows`.
fn read(text: &str, rows: &mut BTreeMap<u16, Row>) -> Result<()> {
    let mut lines = text.lines().zip(1..);
    let first = lines.next().map(|(line, _)| line);
    ensure!(first == Some(HEADER), "line 1 must be '{HEADER}'");
    let mut last = None;
    for (line, number) in lines {
        let (id, row) = row(line).with_context(|| format!("line {number}: {line}"))?;
        ensure!(last < Some(id), "line {number}: {id} is not above the last");
        last = Some(id);
        let twice = rows.insert(id, row).is_some();
        ensure!(!twice, "line {number}: another file has {id} too");
    }
    Ok(())
}

fn row(line: &str) -> Result<(u16, Row)> {
    let columns: Vec<_> = line.split(',').collect();
    let &[id, name, data_type, _, target, width, rank, otherwise] = columns.as_slice() else {
        bail!("{} columns, not 8", columns.len());
    };
    let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    ensure!(
        !name.is_empty() && name.chars().all(is_part_of_name),
        "the name may have letters, digits, '_' and '-'"
    );
    ensure!(TYPES.contains(&data_type), "RFC 7012 has no such type");
    let row = Row {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        fills: fills(target, width, rank, otherwise)?,
    };
    Ok((id.parse().context("the id is a number up to 65535")?, row))
}

/// The expression that makes the `Element`.
fn fills(target: &str, width: &str, rank: &str, otherwise: &str) -> Result<String> {
    if target.is_empty() {
        let is_empty = width.is_empty() && rank.is_empty() && otherwise.is_empty();
        ensure!(
            is_empty,
            "what fills nothing has no width, rank or otherwise"
        );
        return Ok(String::new());
    }
    let made = match (target.split_once(' '), width) {
        (Some((target, index)), "number") => {
            let index: u8 = index.parse().context("the part is a number up to 255")?;
            format!("E::part(T::{target}, {index})")
        }
        (Some(_), _) => bail!("what fills a part of its field is a number"),
        (None, "number") => format!("E::number(T::{target})"),
        (None, bytes) => {
            let length = |text: &str| {
                let length: Result<u16, _> = text.parse();
                length.context("width: 'number', a length, or the least and the most of them")
            };
            match bytes.split_once('-') {
                Some((min, max)) => {
                    let (min, max) = (length(min)?, length(max)?);
                    format!("E::within(T::{target}, {min}, {max})")
                }
                None => format!("E::exactly(T::{target}, {})", length(bytes)?),
            }
        }
    };
    let rank: u8 = rank.parse().context("the rank is a number up to 255")?;
    Ok(match (rank, otherwise) {
        (0, "absent") => made,
        (_, "absent") => format!("{made}.if_absent({rank})"),
        (1.., "unknown") => format!("{made}.if_unknown({rank})"),
        _ => bail!("otherwise: 'absent', or 'unknown' where the rank is not 0"),
    })
}

/// RFC 5103 section 6.1: under this number, each element has its reverse.
const REVERSE: u32 = 29305;

/// Those that have none: what names flows, templates and domains, what is said of the processes
/// that meter, export and collect, padding, and which way is the forward one.
const NOT_REVERSIBLE: [u16; 25] = [
    40, 41, 42, 130, 131, 137, 145, 148, 149, 163, 164, 165, 166, 167, 168, 173, 210, 211, 212,
    213, 214, 215, 216, 217, 239,
];

/// Adds the reverse of each of IANA's elements that the data do not list.
fn derive_reverse(enterprises: &mut Enterprises) {
    let iana = enterprises.get(&0).cloned().unwrap_or_default();
    let reverse = enterprises.entry(REVERSE).or_default();
    for (id, row) in iana {
        // Numbers above are NetFlow v9's, which has no enterprises.
        let is_reversible = id < 0x8000 && !NOT_REVERSIBLE.contains(&id);
        if is_reversible {
            let Row {
                name, data_type, ..
            } = row;
            reverse.entry(id).or_insert_with(|| Row {
                name: format!("reverse{}", capitalized(&name)),
                data_type,
                fills: String::new(),
            });
        }
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn write(enterprises: &Enterprises) -> String {
    let mut lines = vec![
        "//! Made by `cargo xtask elements` from the data beside it: change those.".into(),
        String::new(),
        "use super::{DataType as D, Named, named};".into(),
        "use crate::decode::fields::{Element as E, Target as T};".into(),
        String::new(),
        "/// What fills something, by enterprise and number.".into(),
    ];
    let filling: Vec<_> = enterprises
        .iter()
        .flat_map(|(pen, rows)| rows.iter().map(move |(id, row)| (pen, id, &row.fills)))
        .filter(|(_, _, fills)| !fills.is_empty())
        .map(|(pen, id, fills)| format!("    (({pen}, {id}), {fills}),"))
        .collect();
    let count = filling.len();
    lines.push(format!(
        "pub(super) static FILLING: [((u32, u16), E); {count}] = ["
    ));
    lines.extend(filling);
    lines.extend(
        [
            "];",
            "",
            "/// What is known of each enterprise's elements, by number.",
        ]
        .map(Into::into),
    );
    let count = enterprises.len();
    lines.push(format!(
        "pub(super) static NAMED: [(u32, &[Named]); {count}] = ["
    ));
    lines.extend(
        enterprises
            .keys()
            .map(|pen| format!("    ({pen}, &OF_{pen}),")),
    );
    lines.push("];".into());
    for (pen, rows) in enterprises {
        let count = rows.len();
        lines.push(String::new());
        lines.push(format!("static OF_{pen}: [Named; {count}] = ["));
        lines.extend(rows.iter().map(|(id, row)| {
            let data_type = capitalized(&row.data_type);
            format!("    named({id}, \"{}\", D::{data_type}),", row.name)
        }));
        lines.push("];".into());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(line: &str) -> String {
        let text = format!("{HEADER}\n{line}\n");
        let error = read(&text, &mut BTreeMap::new()).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn a_line_becomes_a_name_and_what_it_fills() {
        let cases = [
            ("4,a,unsigned8,default,,,,", ""),
            ("4,a,unsigned8,x,Tos,number,0,absent", "E::number(T::Tos)"),
            (
                "4,a,unsigned8,x,MplsLabel 3,number,0,absent",
                "E::part(T::MplsLabel, 3)",
            ),
            (
                "4,a,ipv4Address,x,SrcAddrV4,4,1,unknown",
                "E::exactly(T::SrcAddrV4, 4).if_unknown(1)",
            ),
            (
                "4,a,octetArray,x,ApplicationId,2-9,0,absent",
                "E::within(T::ApplicationId, 2, 9)",
            ),
            (
                "4,a,unsigned8,x,Ttl,number,2,absent",
                "E::number(T::Ttl).if_absent(2)",
            ),
        ];
        for (line, fills) in cases {
            let mut rows = BTreeMap::new();
            read(&format!("{HEADER}\n{line}"), &mut rows).unwrap();
            assert_eq!(rows[&4].fills, fills);
        }
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wrong() {
        for (line, wrong) in [
            ("4,a,unsigned33,x,,,,", "no such type"),
            ("4,a b,unsigned8,x,,,,", "the name may have"),
            ("65536,a,unsigned8,x,,,,", "up to 65535"),
            ("4,a,unsigned8,x,,4,,", "fills nothing"),
            ("4,a,unsigned8,x,Tos,some,0,absent", "width"),
            ("4,a,unsigned8,x,Tos,2-,0,absent", "width"),
            ("4,a,unsigned8,x,Tos,number,0,unknown", "otherwise"),
            ("4,a,unsigned8,x,Tos 3,4,0,absent", "part of its field"),
            ("4,a,unsigned8,x", "4 columns"),
            ("4,a,unsigned8,x,,,,\n4,b,unsigned8,x,,,,", "line 3"),
        ] {
            let error = error_of(line);
            assert!(error.contains(wrong), "{line}: {error}");
        }
    }

    #[test]
    fn the_reverse_of_an_element_is_derived_where_there_is_one() {
        let named = |name: &str| Row {
            name: name.into(),
            data_type: "unsigned64".into(),
            fills: "E::number(T::Bytes)".into(),
        };
        let iana = [(1, "octetDeltaCount"), (148, "flowId"), (40_001, "x")];
        let iana = iana.map(|(id, name)| (id, named(name)));
        let mut enterprises = Enterprises::from([(0, BTreeMap::from(iana))]);
        derive_reverse(&mut enterprises);
        let reverse: Vec<_> = enterprises[&REVERSE].iter().collect();
        let expected = Row {
            fills: String::new(),
            ..named("reverseOctetDeltaCount")
        };
        assert_eq!(reverse, [(&1, &expected)]);
    }
}
