//! Queries with their placeholders filled in. What these are: `grafana/source/README.md`.

use anyhow::{Context, Result, bail, ensure};

use super::filters;
use super::source::{Language, Variable};
use super::traffic::{self, Shape};

/// `sql` as Grafana gets it in this language, on a dashboard that has these variables.
pub fn expand(sql: &str, variables: &[&Variable], language: Language) -> Result<String> {
    ensure!(
        !sql.contains(';') && !sql.contains("--") && !sql.contains("/*"),
        "a query has no ';' and no comment"
    );
    let mut out = String::new();
    let mut rest = sql.trim();
    while let Some((before, behind)) = rest.split_once("{{") {
        let (placeholder, behind) = behind.split_once("}}").context("'{{' without '}}'")?;
        out.push_str(before);
        let made = match placeholder.strip_prefix("text ") {
            Some(text) => literal(text, language),
            None => one(placeholder, variables),
        };
        out.push_str(&made.with_context(|| format!("{{{{{placeholder}}}}}"))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

/// `english | japanese` as a string of SQL.
fn literal(text: &str, language: Language) -> Result<String> {
    let (english, japanese) = text
        .split_once('|')
        .context("no '|' between two languages")?;
    let text = match language {
        Language::English => english.trim(),
        Language::Japanese => japanese.trim(),
    };
    ensure!(
        !text.is_empty() && !text.contains(['\'', '\\']),
        "no text, or one with a quote or backslash"
    );
    Ok(format!("'{text}'"))
}

fn one(placeholder: &str, variables: &[&Variable]) -> Result<String> {
    let words: Vec<&str> = placeholder.split_whitespace().collect();
    let (name, arguments) = words.split_first().context("an empty placeholder")?;
    Ok(match (*name, arguments) {
        ("series", needs) => traffic::table(Shape::Series, needs, variables)?,
        ("total", needs) => traffic::table(Shape::Total, needs, variables)?,
        ("bits", []) => rate("bytes_here", 8),
        ("packets", []) => rate("packets_here", 1),
        ("flows", []) => rate("flows_here", 1),
        ("filter", []) => format!(
            "time_received >= $__fromTime AND time_received <= $__toTime{}",
            filters::all_of(variables.iter().copied())
        ),
        ("counted", []) => COUNTED.into(),
        ("exporter_filter", []) => {
            let exporter = variables
                .iter()
                .find(|variable| variable.name == "exporter");
            exporter.map_or("1".into(), |exporter| filters::condition(exporter))
        }
        ("from", []) => "$__fromTime".into(),
        ("to", []) => "$__toTime".into(),
        ("bucket", [column]) => {
            format!("toStartOfInterval({column}, toIntervalSecond({BUCKET_SECONDS}))")
        }
        ("bucket_seconds", []) => BUCKET_SECONDS.into(),
        ("addr", [column]) => address(column),
        ("protocol_name", [column]) => {
            let (numbers, names): (Vec<_>, Vec<_>) = PROTOCOLS.into_iter().unzip();
            format!(
                "transform({column}, {numbers:?}, {}, toString({column}))",
                quoted(&names)
            )
        }
        ("tcp_flags", [column]) => format!(
            "arrayStringConcat(arrayFilter((name, bit) -> bitTest({column}, bit), {}, range({})), \
             ' ')",
            quoted(&TCP_FLAGS),
            TCP_FLAGS.len()
        ),
        ("exporter_name", [column]) => named(
            EXPORTER_NAMES,
            &format!("toString({column})"),
            &address(column),
        ),
        ("interface_name", [exporter, index]) => named(
            INTERFACE_NAMES,
            &format!("concat(toString({exporter}), '|', toString({index}))"),
            &format!("toString({index})"),
        ),
        ("host_name", [column]) => {
            format!("dictGetOrDefault('host_names', 'name', tuple({column}), '')")
        }
        ("as_name", [column]) => {
            let number = format!("concat('AS', toString({column}))");
            named(&as_names(), &format!("toString({column})"), &number)
        }
        _ => bail!("nobody defines this placeholder, or it has other arguments"),
    })
}

fn rate(column: &str, times: u32) -> String {
    let sum = match times {
        1 => format!("sum({column})"),
        _ => format!("sum({column}) * {times}"),
    };
    format!("({sum} / greatest(any(seconds), 1))")
}

fn address(column: &str) -> String {
    format!("replaceOne(toString({column}), '::ffff:', '')")
}

/// What a query of pairs (key, named) calls `key`, else `otherwise`.
fn named(pairs: &str, key: &str, otherwise: &str) -> String {
    let map = format!(
        "(SELECT CAST((groupArray(key), groupArray(named)), 'Map(String, String)') FROM ({pairs}))"
    );
    format!("if({map}[{key}] = '', {otherwise}, {map}[{key}])")
}

/// Names of autonomous systems, which flows alone have: of the newest in the range.
fn as_names() -> String {
    format!(
        "SELECT toString(of_system.1) AS key, concat('AS', key, ' ', any(of_system.2)) AS named \
         FROM (SELECT arrayJoin([(src_as, toString(any(src_as_name))), (dst_as, \
         toString(any(dst_as_name)))]) AS of_system FROM (SELECT src_as, dst_as, src_as_name, \
         dst_as_name FROM flows WHERE time_received >= greatest($__fromTime, $__toTime - \
         {NAMES_SECONDS}) AND time_received <= $__toTime LIMIT {NAMES_ROWS_MAX}) GROUP BY src_as, \
         dst_as) WHERE of_system.1 != 0 AND of_system.2 != '' GROUP BY key"
    )
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", names.join(", "))
}

/// Series of one name would hide each other, so who shares a name is told with the address.
const EXPORTER_NAMES: &str = "\
    SELECT toString(exporter_addr) AS key, \
    if(called != '' AND count() OVER (PARTITION BY called) > 1, \
    concat(called, ' (', replaceOne(key, '::ffff:', ''), ')'), called) AS named \
    FROM (SELECT exporter_addr, argMax(name, last_seen) AS called \
    FROM exporter_names GROUP BY exporter_addr)";
/// What SNMP or a file says goes before what options say.
const INTERFACE_NAMES: &str = "\
    SELECT concat(toString(exporter_addr), '|', toString(if_index)) AS key, \
    if(called != '' AND count() OVER (PARTITION BY exporter_addr, called) > 1, \
    concat(called, ' #', toString(if_index)), called) AS named \
    FROM (SELECT exporter_addr, if_index, \
    concat(argMax(name, (name != '', source, last_seen)), \
    if(max(description) = '', '', \
    concat(' (', argMax(description, (description != '', source, last_seen)), ')'))) AS called \
    FROM interfaces GROUP BY exporter_addr, if_index)";
/// The same as in sql/010_rollups.sql.
const COUNTED: &str =
    "(direction != 'egress' OR exporter_addr NOT IN (SELECT exporter_addr FROM ingress_only))";
/// Tables beside the flows have a row a minute.
const BUCKET_SECONDS: &str = "(intDiv(greatest($__interval_s, 60) + 59, 60) * 60)";
/// How far back names of autonomous systems are looked for, and in how many rows.
const NAMES_SECONDS: u32 = 1800;
const NAMES_ROWS_MAX: u32 = 500_000;
/// Those that people know by name. https://www.iana.org/assignments/protocol-numbers
const PROTOCOLS: [(u8, &str); 16] = [
    (1, "ICMP"),
    (2, "IGMP"),
    (4, "IPv4"),
    (6, "TCP"),
    (17, "UDP"),
    (41, "IPv6"),
    (46, "RSVP"),
    (47, "GRE"),
    (50, "ESP"),
    (51, "AH"),
    (58, "IPv6-ICMP"),
    (88, "EIGRP"),
    (89, "OSPF"),
    (103, "PIM"),
    (112, "VRRP"),
    (132, "SCTP"),
];

/// From the lowest bit. RFC 9293, section 3.1; the ninth was NS (RFC 3540).
const TCP_FLAGS: [&str; 9] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_unknown_ones_refused() {
        let sql = "SELECT {{addr a}}, {{text none | なし}} WHERE {{counted}}";
        let filled = |language| expand(sql, &[], language).unwrap();
        for (language, none) in Language::ALL.into_iter().zip(["none", "なし"]) {
            assert_eq!(
                filled(language),
                format!("SELECT replaceOne(toString(a), '::ffff:', ''), '{none}' WHERE {COUNTED}")
            );
        }
        for wrong in [
            "{{nothing}}",
            "{{text one}}",
            "{{addr}}",
            "{{series color}}",
            "{{from",
            "SELECT 1;",
        ] {
            let filled = expand(wrong, &[], Language::English);
            assert!(filled.is_err(), "{wrong}");
        }
    }
}
