//! `cargo xtask services`: the names of services and protocols, from IANA's files to those of the
//! collector.
//!
//! `collector/src/enrich/services/` has what the collector reads; see the README there. `--check`
//! holds against each other what is committed and what its form would be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use flowsluice_tests::place;

/// Arguments of `cargo xtask services`.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail when the committed files do not have their form.
    #[arg(long, required_unless_present = "folder")]
    check: bool,
    /// Where IANA's service-names-port-numbers.csv and protocol-numbers-1.csv are.
    #[arg(conflicts_with = "check")]
    folder: Option<PathBuf>,
}

/// Makes the files, or checks them.
pub fn main(args: &Args) -> Result<()> {
    let Some(from) = &args.folder else {
        return check();
    };
    let read = |name: &str| {
        let path = from.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let ports = ports_of_registry(&read("service-names-port-numbers.csv")?)?;
    let protocols = protocols_of_registry(&read("protocol-numbers-1.csv")?)?;
    for (name, text) in [
        (PORTS, ports.written()),
        (PROTOCOLS, written_protocols(&protocols)),
    ] {
        let path = folder().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        eprintln!("xtask: wrote {}", path.display());
    }
    Ok(())
}

/// Fails when the committed files do not have the form in which they are written.
pub fn check() -> Result<()> {
    let is_as_written = |name: &str, again: fn(&str) -> Result<String>| {
        let path = folder().join(name);
        let committed = fs::read_to_string(&path);
        let committed = committed.with_context(|| format!("read {}", path.display()))?;
        let again = again(&committed).with_context(|| path.display().to_string())?;
        let line = committed
            .lines()
            .zip(again.lines())
            .position(|(a, b)| a != b);
        ensure!(
            committed == again,
            "{}:{}: lines are ordered by port and protocol, one a name; order them",
            path.display(),
            line.map_or(1, |line| line + 1)
        );
        Ok(())
    };
    is_as_written(PORTS, |text| Ok(Ports::read(text)?.written()))?;
    is_as_written(PROTOCOLS, |text| {
        Ok(written_protocols(&read_protocols(text)?))
    })
}

const PORTS: &str = "ports.csv";
const PORTS_TITLES: &str = "ports,protocols,name";
const PROTOCOLS: &str = "protocols.csv";
const PROTOCOLS_TITLES: &str = "number,name";

fn folder() -> PathBuf {
    place::root().join("collector/src/enrich/services")
}

/// Protocols whose ports are registered, in the order in which a line has them.
const WITH_PORTS: [&str; 4] = ["tcp", "udp", "sctp", "dccp"];

/// Names at ports.
#[derive(Debug, Default)]
struct Ports {
    /// Which protocols have a name at a port, or at a range of them.
    lines: BTreeMap<(u16, u16, String), BTreeSet<usize>>,
    /// Ports that have a name already, by protocol.
    taken: BTreeSet<(usize, u16)>,
}

impl Ports {
    /// From the form in which they are written.
    fn read(text: &str) -> Result<Self> {
        let mut ports = Self::default();
        for (line, number) in lines(text, PORTS_TITLES)? {
            let added = ports.add_line(line);
            added.with_context(|| format!("line {number}: {line}"))?;
        }
        Ok(ports)
    }

    fn add_line(&mut self, line: &str) -> Result<()> {
        let columns: Vec<_> = line.split(',').collect();
        let &[range, protocols, name] = columns.as_slice() else {
            bail!("{} columns, not 3", columns.len());
        };
        ensure!(is_name(name), "the name is ASCII without blanks");
        let range = parse_range(range)?;
        for protocol in protocols.split(' ') {
            let is_new = self.add(&range, protocol_place(protocol)?, name);
            ensure!(is_new, "another line has the port and protocol too");
        }
        Ok(())
    }

    /// False when one of the ports has a name already.
    fn add(&mut self, range: &RangeInclusive<u16>, protocol: usize, name: &str) -> bool {
        let Self { lines, taken } = self;
        if range.clone().any(|port| taken.contains(&(protocol, port))) {
            return false;
        }
        taken.extend(range.clone().map(|port| (protocol, port)));
        let key = (*range.start(), *range.end(), name.to_owned());
        lines.entry(key).or_default().insert(protocol)
    }

    fn written(&self) -> String {
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|((from, to, name), protocols)| (*from, *to, *protocols, name));
        let mut text = format!("{PORTS_TITLES}\n");
        for ((from, to, name), protocols) in lines {
            let range = match from == to {
                true => from.to_string(),
                false => format!("{from}-{to}"),
            };
            let protocols = protocols.iter().filter_map(|place| WITH_PORTS.get(*place));
            let protocols: Vec<_> = protocols.copied().collect();
            text += &format!("{range},{},{name}\n", protocols.join(" "));
        }
        text
    }
}

/// The lines below the titles, with their numbers.
fn lines<'a>(text: &'a str, titles: &str) -> Result<impl Iterator<Item = (&'a str, usize)>> {
    ensure!(
        text.lines().next() == Some(titles),
        "line 1 must be '{titles}'"
    );
    Ok(text.lines().zip(1..).skip(1))
}

/// What may stand between commas and be shown.
fn is_name(text: &str) -> bool {
    let may_be_in_it = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '"');
    !text.is_empty() && text.chars().all(may_be_in_it)
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let range = from.parse()?..=to.parse()?;
    ensure!(!range.is_empty(), "the range ends before it begins");
    Ok(range)
}

fn protocol_place(name: &str) -> Result<usize> {
    let place = WITH_PORTS.iter().position(|known| *known == name);
    place.with_context(|| format!("'{name}' is none of {}", WITH_PORTS.join(", ")))
}

/// The records of one of IANA's files, below its titles.
fn registry(text: &str, titles: &[&str]) -> Result<Vec<csv::StringRecord>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let begins_right = reader
        .headers()?
        .iter()
        .take(titles.len())
        .eq(titles.iter().copied());
    ensure!(
        begins_right,
        "the first columns are not {}",
        titles.join(", ")
    );
    Ok(reader.records().collect::<Result<_, _>>()?)
}

/// The names in IANA's service-names-port-numbers.csv: of several for a port, the first.
fn ports_of_registry(text: &str) -> Result<Ports> {
    let titles = ["Service Name", "Port Number", "Transport Protocol"];
    let mut ports = Ports::default();
    for record in registry(text, &titles)? {
        let column = |number| record.get(number).unwrap_or_default();
        let (name, protocol) = (column(0), protocol_place(column(2)));
        // Services without a port, and ports that are reserved or free.
        if let (true, Ok(range), Ok(protocol)) = (is_name(name), parse_range(column(1)), protocol) {
            ports.add(&range, protocol, name);
        }
    }
    Ok(ports)
}

/// Of which IANA's keyword is not what everybody calls them.
const COMMON_NAMES: [(u8, &str); 1] = [(89, "ospf")];

/// The names in IANA's protocol-numbers-1.csv.
fn protocols_of_registry(text: &str) -> Result<BTreeMap<u8, String>> {
    let mut protocols = BTreeMap::new();
    for record in registry(text, &["Decimal", "Keyword"])? {
        let column = |number| record.get(number).unwrap_or_default();
        let keyword = column(1).trim_end_matches(" (deprecated)");
        let Ok(number) = column(0).parse() else {
            // A range of numbers that nobody has.
            continue;
        };
        let common = COMMON_NAMES.iter().find(|(known, _)| *known == number);
        let name = match common {
            Some((_, name)) => (*name).to_owned(),
            None => keyword.to_lowercase().replace(' ', "-"),
        };
        if is_name(&name) && name != "reserved" {
            protocols.insert(number, name);
        }
    }
    Ok(protocols)
}

fn read_protocols(text: &str) -> Result<BTreeMap<u8, String>> {
    let mut protocols = BTreeMap::new();
    for (line, number) in lines(text, PROTOCOLS_TITLES)? {
        let parsed = line.split_once(',').and_then(|(protocol, name)| {
            let protocol: u8 = protocol.parse().ok()?;
            is_name(name).then(|| (protocol, name.to_owned()))
        });
        let (protocol, name) = parsed.with_context(|| format!("line {number}: {line}"))?;
        let twice = protocols.insert(protocol, name).is_some();
        ensure!(!twice, "line {number}: another line has {protocol} too");
    }
    Ok(protocols)
}

fn written_protocols(protocols: &BTreeMap<u8, String>) -> String {
    let lines = protocols
        .iter()
        .map(|(number, name)| format!("{number},{name}\n"));
    format!("{PROTOCOLS_TITLES}\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In IANA's form, with made-up people.
    const REGISTRY: &str = "\
Service Name,Port Number,Transport Protocol,Description,Assignee,Contact,Registration Date
,0,tcp,Reserved,[A],[A],
http,80,tcp,World Wide Web HTTP,[A],[A],
http,80,udp,World Wide Web HTTP,[A],[A],
www-http,80,tcp,World Wide Web HTTP,[A],[A],\"A duplicate of \"\"http\"\",
on two lines.\"
http,80,sctp,HTTP,[A],[A],
,81,,Unassigned,,,
two words,82,tcp,No name,,,
x11,6000-6063,tcp,X Window System,,,
x11,6000-6063,udp,X Window System,,,
late,6001,tcp,In a range that has a name,,,
1password,,tcp,Without a port,,,
";

    #[test]
    fn of_the_names_of_a_port_the_first_is_taken() {
        let ports = ports_of_registry(REGISTRY).unwrap();
        let expected = "ports,protocols,name\n80,tcp udp sctp,http\n6000-6063,tcp udp,x11\n";
        assert_eq!(ports.written(), expected);
        assert_eq!(Ports::read(expected).unwrap().written(), expected);
        let error = ports_of_registry("Name,Port\n").unwrap_err();
        assert!(error.to_string().contains("Service Name"), "{error}");
    }

    #[test]
    fn protocols_have_their_keyword_in_lower_case() {
        let registry = "Decimal,Keyword,Protocol,IPv6 Extension Header,Reference\n\
            1,ICMP,Internet Control Message,,[A]\n13,ARGUS (deprecated),ARGUS,,[A]\n\
            61,,any host internal protocol,,[A]\n89,OSPFIGP,OSPFIGP,,[A]\n\
            135,Mobility Header,,Y,[A]\n148-252,,Unassigned,,[A]\n255,Reserved,,,[A]\n";
        let protocols = protocols_of_registry(registry).unwrap();
        let expected = "number,name\n1,icmp\n13,argus\n89,ospf\n135,mobility-header\n";
        assert_eq!(written_protocols(&protocols), expected);
        assert_eq!(read_protocols(expected).unwrap(), protocols);
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wrong() {
        for (lines, wrong) in [
            ("80,tcp", "line 2: 80,tcp: 2 columns"),
            ("80,tcp,a b", "ASCII without blanks"),
            ("80,icmp,a", "'icmp' is none of tcp"),
            ("90-80,tcp,a", "ends before it begins"),
            ("65536,tcp,a", "line 2"),
            (
                "80,tcp udp,a\n79-81,udp,b",
                "line 3: 79-81,udp,b: another line",
            ),
        ] {
            let error = Ports::read(&format!("{PORTS_TITLES}\n{lines}\n")).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(wrong), "{lines}: {error}");
        }
        assert!(read_protocols("number,name\n1,a\n1,b\n").is_err());
        assert!(read_protocols("number,name\n256,a\n").is_err());
        assert!(read_protocols("name,number\n").is_err());
    }

    #[test]
    fn what_is_committed_has_its_form() {
        check().unwrap();
    }
}
