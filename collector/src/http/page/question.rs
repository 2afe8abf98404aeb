//! The questions that the page asks, as SQL over the views that Grafana asks as well.
//!
//! A question without fields of single flows is answered from the rollups; the others read `flows`
//! by `flows_by_minute`, an hour at most. Long flows are spread over their minutes by both.

use super::ask::{Parameter, Statement};
use super::filter::{Filter, Range};
use super::refusal::Refusal;

/// What rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// Single flows, spread when they are asked.
    Flows,
    /// The rollup by minute.
    Minute,
    /// The rollup by hour.
    Hour,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Octets over time, by service.
    Traffic,
    /// Hosts by what they sent and received.
    Talkers,
    /// Services.
    Services,
    /// Client, service and server.
    Conversations,
    /// What came in by interfaces and went out by them.
    Interfaces,
}

/// Longest time that single flows are read of.
const FLOWS_MAX_S: u64 = 3600;
/// Longest time that the rollup by minute is read of.
const MINUTES_MAX_S: u64 = 6 * 3600;
/// Services that have a series of their own.
pub(super) const SERIES_MAX: usize = 8;
/// A flow arrives when it has ended, an hour after its first minute at the latest; and clocks of
/// exporters are wrong by minutes.
const ARRIVES_EARLIER_S: u64 = 900;
const ARRIVES_LATER_S: u64 = 4500;

impl Grain {
    pub fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    /// The time in whole steps of the rows.
    pub fn whole(self, range: Range) -> Range {
        match self {
            Self::Flows | Self::Minute => range.in_minutes(),
            Self::Hour => range.in_hours(),
        }
    }

    /// Seconds of a step.
    pub fn step_s(self) -> u64 {
        match self {
            Self::Flows | Self::Minute => 60,
            Self::Hour => 3600,
        }
    }

    fn time(self) -> &'static str {
        match self {
            Self::Flows | Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

impl Topic {
    /// What to read, the best first: where that has too many rows, the next.
    pub fn grains(self, range: &Range, filter: &Filter) -> Result<Vec<Grain>, Refusal> {
        let of_flows = filter.addresses.is_some()
            || filter.port.is_some()
            || filter.protocol.is_some()
            || filter.autonomous_system.is_some();
        let has_interfaces = !matches!(self, Self::Talkers | Self::Conversations);
        let needs_flows = of_flows || (filter.interface.is_some() && !has_interfaces);
        let seconds = range.seconds();
        if needs_flows {
            let too_long = Refusal::TooLong {
                most_s: FLOWS_MAX_S,
            };
            return (seconds <= FLOWS_MAX_S)
                .then(|| vec![Grain::Flows])
                .ok_or(too_long);
        }
        Ok(match (has_interfaces, seconds) {
            (true, 0..=MINUTES_MAX_S) => vec![Grain::Minute],
            (false, 0..=FLOWS_MAX_S) => vec![Grain::Flows, Grain::Hour],
            _ => vec![Grain::Hour],
        })
    }

    /// The statement over rows of `grain`.
    pub fn statement(self, grain: Grain, range: Range, filter: &Filter, limit: u32) -> Statement {
        let range = grain.whole(range);
        let (condition, mut parameters) = condition(grain, range, filter);
        let time = grain.time();
        let rollup = match grain {
            Grain::Flows => "flows_by_minute",
            Grain::Minute => "rollup_minute_services",
            Grain::Hour => "rollup_hour_services",
        };
        let sql = match (self, grain) {
            (Self::Traffic, _) => traffic(rollup, time, &condition),
            (Self::Services, _) => services(rollup, &condition),
            (Self::Interfaces, _) => interfaces(rollup, &condition, filter),
            (Self::Talkers, Grain::Hour) => talkers("hosts_by_hour", "", &condition),
            (Self::Talkers, _) => {
                let ends = "ARRAY JOIN [src_addr, dst_addr] AS addr, \
                            ['source', 'destination'] AS side";
                talkers(rollup, ends, &condition)
            }
            (Self::Conversations, Grain::Hour) => {
                conversations("conversations_by_hour", &condition)
            }
            (Self::Conversations, _) => conversations(rollup, &condition),
        };
        if self != Self::Traffic {
            parameters.push(("limit", limit.into()));
        }
        Statement { sql, parameters }
    }
}

/// The names of addresses by reverse DNS: `(address, name)`.
pub(super) fn host_names(addresses: &[String]) -> Statement {
    names("hosts", "addr", addresses)
}

/// What enrichment calls exporters: `(address, name)`.
pub(super) fn exporter_names(addresses: &[String]) -> Statement {
    names("exporter_names", "exporter_addr", addresses)
}

fn names(table: &str, column: &str, addresses: &[String]) -> Statement {
    Statement {
        sql: format!(
            "SELECT toString({column}), argMax(name, last_seen) FROM {table} \
             WHERE {column} IN (SELECT toIPv6(arrayJoin({{addresses:Array(String)}}))) \
             GROUP BY {column} LIMIT 1000"
        ),
        parameters: vec![("addresses", addresses.into())],
    }
}

/// What interfaces are called: `(exporter, number, name, description, speed)`. What the operator
/// wrote and SNMP said goes before what options records said.
pub(super) fn interface_names(exporters: &[String]) -> Statement {
    Statement {
        sql: "SELECT toString(exporter_addr), if_index, \
              argMax(name, (toUInt8(source), last_seen)), \
              argMax(description, (toUInt8(source), last_seen)), max(speed) \
              FROM interfaces \
              WHERE exporter_addr IN (SELECT toIPv6(arrayJoin({exporters:Array(String)}))) \
              GROUP BY exporter_addr, if_index LIMIT 10000"
            .into(),
        parameters: vec![("exporters", exporters.into())],
    }
}

/// WHERE, and what it names.
fn condition(grain: Grain, range: Range, filter: &Filter) -> (String, Vec<Parameter>) {
    let time = grain.time();
    let mut parts = vec![
        format!("{time} >= toDateTime({{from:UInt32}}, 'UTC')"),
        format!("{time} < toDateTime({{to:UInt32}}, 'UTC')"),
    ];
    let mut parameters = vec![("from", range.from.into()), ("to", range.to.into())];
    if grain == Grain::Flows {
        let from = range.from.saturating_sub(ARRIVES_EARLIER_S);
        let to = range.to + ARRIVES_LATER_S;
        parts.push("time_received >= toDateTime({received_from:UInt32}, 'UTC')".into());
        parts.push("time_received < toDateTime({received_to:UInt32}, 'UTC')".into());
        parameters.push(("received_from", from.into()));
        parameters.push(("received_to", to.into()));
    }
    let mut also = |part: &str, named: Vec<Parameter>| {
        parts.push(part.to_owned());
        parameters.extend(named);
    };
    if let Some(exporter) = filter.exporter {
        let named = vec![("exporter", exporter.to_string().into())];
        also("exporter_addr = {exporter:IPv6}", named);
    }
    if let Some((first, last)) = filter.addresses {
        let named = vec![
            ("first", first.to_string().into()),
            ("last", last.to_string().into()),
        ];
        let part = "((src_addr >= {first:IPv6} AND src_addr <= {last:IPv6}) \
                    OR (dst_addr >= {first:IPv6} AND dst_addr <= {last:IPv6}))";
        also(part, named);
    }
    if let Some(port) = filter.port {
        also("server_port = {port:UInt16}", vec![("port", port.into())]);
    }
    if let Some(protocol) = filter.protocol {
        let named = vec![("protocol", protocol.into())];
        also("protocol = {protocol:UInt8}", named);
    }
    if let Some(number) = filter.autonomous_system {
        let part = "(src_as = {autonomous_system:UInt32} OR dst_as = {autonomous_system:UInt32})";
        also(part, vec![("autonomous_system", number.into())]);
    }
    if let Some(interface) = filter.interface {
        let part = "(in_if = {interface:UInt32} OR out_if = {interface:UInt32})";
        also(part, vec![("interface", interface.into())]);
    }
    (parts.join(" AND "), parameters)
}

/// `(time, service, is the rest, octets, packets)`: the services with most octets, and the rest.
fn traffic(rows: &str, time: &str, condition: &str) -> String {
    format!(
        "SELECT time, if(place <= {SERIES_MAX}, service, '') AS name, \
         place > {SERIES_MAX} AS is_rest, sum(octets), sum(packets_here) \
         FROM (SELECT time, service, octets, packets_here, \
         dense_rank() OVER (ORDER BY octets_of_all DESC, service) AS place \
         FROM (SELECT time, service, octets, packets_here, \
         sum(octets) OVER (PARTITION BY service) AS octets_of_all \
         FROM (SELECT toUnixTimestamp({time}) AS time, toString(service) AS service, \
         sum(bytes) AS octets, sum(packets) AS packets_here \
         FROM {rows} WHERE {condition} GROUP BY {time}, service))) \
         GROUP BY time, name, is_rest ORDER BY is_rest, name, time"
    )
}

/// `(service, octets, packets, flows, octets of all)`.
fn services(rows: &str, condition: &str) -> String {
    format!(
        "SELECT name, octets, packets_here, flows_here, sum(octets) OVER () \
         FROM (SELECT toString(service) AS name, sum(bytes) AS octets, \
         sum(packets) AS packets_here, sum(flows) AS flows_here \
         FROM {rows} WHERE {condition} GROUP BY service) \
         ORDER BY octets DESC, name LIMIT {{limit:UInt32}}"
    )
}

/// `(address, octets sent, octets received, packets, flows, octets of all)`. The rest of a rollup
/// has the address '::' and counts for all, but is no talker.
fn talkers(rows: &str, ends: &str, condition: &str) -> String {
    format!(
        "SELECT address, sent, received, packets_here, flows_here, octets_of_all \
         FROM (SELECT toString(addr) AS address, sumIf(bytes, side = 'source') AS sent, \
         sumIf(bytes, side = 'destination') AS received, sum(packets) AS packets_here, \
         sum(flows) AS flows_here, sum(sent) OVER () AS octets_of_all \
         FROM {rows} {ends} WHERE {condition} GROUP BY addr) \
         WHERE address != '::' \
         ORDER BY sent + received DESC, address LIMIT {{limit:UInt32}}"
    )
}

/// `(client, server, service, octets, packets, flows, octets of all)`.
fn conversations(rows: &str, condition: &str) -> String {
    format!(
        "SELECT client, server, name, octets, packets_here, flows_here, octets_of_all \
         FROM (SELECT toString(client_addr) AS client, toString(server_addr) AS server, \
         toString(service) AS name, sum(bytes) AS octets, sum(packets) AS packets_here, \
         sum(flows) AS flows_here, sum(octets) OVER () AS octets_of_all \
         FROM {rows} WHERE {condition} GROUP BY client_addr, server_addr, service) \
         WHERE client != '::' OR server != '::' \
         ORDER BY octets DESC, client, server, name LIMIT {{limit:UInt32}}"
    )
}

/// `(exporter, number, octets in, octets out, packets, flows)`. 0 is no interface.
fn interfaces(rows: &str, condition: &str, filter: &Filter) -> String {
    let chosen = match filter.interface {
        Some(_) => "interface = {interface:UInt32}",
        None => "interface != 0",
    };
    format!(
        "SELECT toString(exporter_addr), interface, sumIf(bytes, way = 1) AS octets_in, \
         sumIf(bytes, way = 2) AS octets_out, sum(packets), sum(flows) \
         FROM {rows} ARRAY JOIN [in_if, out_if] AS interface, [1, 2] AS way \
         WHERE {condition} AND {chosen} GROUP BY exporter_addr, interface \
         ORDER BY octets_in + octets_out DESC, 1, interface LIMIT {{limit:UInt32}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::page::filter::Asked;

    fn range(seconds: u64) -> Range {
        Range {
            from: 1_767_322_800,
            to: 1_767_322_800 + seconds,
            now: 1_767_323_000,
        }
    }

    fn filter(set: impl Fn(&mut Asked)) -> Filter {
        let mut asked = Asked::default();
        set(&mut asked);
        asked.filter().unwrap()
    }

    const TOPICS: [Topic; 5] = [
        Topic::Traffic,
        Topic::Talkers,
        Topic::Services,
        Topic::Conversations,
        Topic::Interfaces,
    ];

    #[test]
    fn rollups_answer_what_they_can_and_single_flows_an_hour_of_the_rest() {
        let all = Filter::default();
        let of = |topic: Topic, seconds, filter: &Filter| topic.grains(&range(seconds), filter);
        assert_eq!(of(Topic::Traffic, 900, &all), Ok(vec![Grain::Minute]));
        assert_eq!(of(Topic::Services, 21_600, &all), Ok(vec![Grain::Minute]));
        assert_eq!(of(Topic::Interfaces, 21_601, &all), Ok(vec![Grain::Hour]));
        let both = Ok(vec![Grain::Flows, Grain::Hour]);
        assert_eq!(of(Topic::Talkers, 900, &all), both);
        assert_eq!(
            of(Topic::Conversations, 86_400, &all),
            Ok(vec![Grain::Hour])
        );
        let interface = filter(|asked| asked.interface = "3".into());
        assert_eq!(
            of(Topic::Traffic, 86_400, &interface),
            Ok(vec![Grain::Hour])
        );
        assert_eq!(of(Topic::Talkers, 900, &interface), Ok(vec![Grain::Flows]));
        let port = filter(|asked| asked.port = "443".into());
        for topic in TOPICS {
            assert_eq!(of(topic, 3600, &port), Ok(vec![Grain::Flows]));
            let refused = Err(Refusal::TooLong { most_s: 3600 });
            assert_eq!(of(topic, 3601, &port), refused);
        }
    }

    #[test]
    fn every_value_of_a_filter_is_a_parameter() {
        let filter = filter(|asked| {
            asked.exporter = "10.1.2.3".into();
            asked.address = "192.0.2.0/24".into();
            asked.port = "44300".into();
            asked.protocol = "132".into();
            asked.autonomous_system = "64999".into();
            asked.interface = "77777".into();
        });
        for topic in TOPICS {
            let Statement { sql, parameters } =
                topic.statement(Grain::Flows, range(600), &filter, 25);
            for value in ["10.1.2.3", "192.0.2", "44300", "132", "64999", "77777"] {
                assert!(!sql.contains(value), "{value} is in {sql}");
                let mut texts = parameters.iter().map(|(_, bound)| bound.to_string());
                let is_bound = texts.any(|text| text.contains(value));
                assert!(is_bound, "{value} is bound");
            }
            for (name, _) in &parameters {
                assert!(
                    sql.contains(&format!("{{{name}:")),
                    "{name} is used in {sql}"
                );
            }
            // The client takes it for a place to fill.
            assert!(!sql.contains('?'));
        }
    }
}
