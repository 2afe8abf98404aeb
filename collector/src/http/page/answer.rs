//! What the store knows of a time: rows of the views, made JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, RowOwned, RowRead};
use serde_json::{Value, json};

use super::super::State;
use super::ask::{Asker, Statement, rows};
use super::filter::{Asked, Filter, Range};
use super::question::{Grain, Topic, exporter_names, host_names, interface_names};
use super::refusal::Refusal;
use crate::units::UnixNanos;

/// How long an answer is given again: what is of the last hour changes with every second.
const FRESH: Duration = Duration::from_secs(5);
const FRESH_OF_LONG: Duration = Duration::from_secs(30);
const LONG_S: u64 = 3600;

/// What is asked, understood.
#[derive(Clone, Debug)]
struct Question {
    topic: Topic,
    range: Range,
    filter: Filter,
    limit: u32,
}

/// The JSON of `topic`, from the store or as it was a moment ago.
pub(super) async fn answer(
    asker: &Asker,
    state: &State,
    (reader, topic): (IpAddr, Topic),
    asked: &Asked,
) -> Result<Bytes, Refusal> {
    let question = Question {
        topic,
        range: asked.range(UnixNanos::now())?,
        filter: asked.filter()?,
        limit: asked.limit()?,
    };
    let grains = topic.grains(&question.range, &question.filter)?;
    let Range { from, to, .. } = question.range;
    let key = format!(
        "{topic:?} {from} {to} {} {:?}",
        question.limit, question.filter
    );
    let is_long = question.range.seconds() > LONG_S;
    let fresh = if is_long { FRESH_OF_LONG } else { FRESH };
    let work = |client| async move {
        let mut outcome = Err(Refusal::TooMuch);
        for grain in grains {
            outcome = question.told(&client, grain).await;
            if outcome != Err(Refusal::TooMuch) {
                break;
            }
        }
        outcome.map(|value| Bytes::from(value.to_string()))
    };
    asker.answer(state, reader, (key, fresh), work).await
}

impl Question {
    /// The answer from rows of `grain`.
    async fn told(&self, client: &Client, grain: Grain) -> Result<Value, Refusal> {
        let Range { from, to, .. } = grain.whole(self.range);
        let seconds = grain.whole(self.range).seconds_passed();
        let mut answer = json!({
            "from": from,
            "to": to,
            "seconds": seconds,
            "step_s": grain.step_s(),
            "rows_of": grain.name(),
        });
        let (name, value) = match self.topic {
            Topic::Traffic => ("series", self.traffic(client, grain).await?),
            Topic::Services => ("services", self.services(client, grain).await?),
            Topic::Talkers => ("talkers", self.talkers(client, grain).await?),
            Topic::Conversations => ("conversations", self.conversations(client, grain).await?),
            Topic::Interfaces => ("interfaces", self.interfaces(client, grain).await?),
        };
        answer[name] = value;
        Ok(answer)
    }

    async fn rows<T>(&self, client: &Client, grain: Grain) -> Result<Vec<T>, Refusal>
    where
        T: RowOwned + RowRead,
    {
        let Self {
            topic,
            range,
            filter,
            limit,
        } = self;
        rows(client, &topic.statement(grain, *range, filter, *limit)).await
    }

    /// Each series has a number a step, from the first step to the last that has begun.
    async fn traffic(&self, client: &Client, grain: Grain) -> Result<Value, Refusal> {
        let rows: Vec<(u32, String, u8, u64, u64)> = self.rows(client, grain).await?;
        let Range { from, to, now } = grain.whole(self.range);
        let (end, step) = (to.min(now.max(from + 1)), grain.step_s());
        let steps = usize::try_from((end - from).div_ceil(step)).unwrap_or(usize::MAX);
        let mut series: BTreeMap<(bool, String), (Vec<u64>, Vec<u64>)> = BTreeMap::new();
        for (time, name, is_rest, octets, packets) in rows {
            let index = usize::try_from((u64::from(time) - from) / step).unwrap_or(usize::MAX);
            let series = series.entry((is_rest != 0, name));
            let zeros = || (vec![0; steps], vec![0; steps]);
            let (all_octets, all_packets) = series.or_insert_with(zeros);
            // An exporter's clock may be ahead.
            if index < steps {
                all_octets[index] = octets;
                all_packets[index] = packets;
            }
        }
        let mut shown: Vec<_> = series.into_iter().collect();
        // The largest first, the rest last.
        shown.sort_by_key(|((is_rest, _), (octets, _))| {
            (*is_rest, std::cmp::Reverse(octets.iter().sum::<u64>()))
        });
        let series = shown.into_iter().map(|((is_rest, name), (octets, packets))| {
            json!({"service": name, "rest": is_rest, "bytes": octets, "packets": packets})
        });
        Ok(series.collect())
    }

    async fn services(&self, client: &Client, grain: Grain) -> Result<Value, Refusal> {
        let rows: Vec<(String, u64, u64, u64, u64)> = self.rows(client, grain).await?;
        let service = |(service, bytes, packets, flows, all)| {
            json!({"service": service, "bytes": bytes, "packets": packets, "flows": flows,
                "bytes_of_all": all})
        };
        Ok(rows.into_iter().map(service).collect())
    }

    async fn talkers(&self, client: &Client, grain: Grain) -> Result<Value, Refusal> {
        let rows: Vec<(String, u64, u64, u64, u64, u64)> = self.rows(client, grain).await?;
        let addresses = distinct(rows.iter().map(|row| &row.0));
        let names = names(client, &host_names(&addresses)).await;
        let talker = |(address, sent, received, packets, flows, all): (String, u64, _, _, _, _)| {
            json!({"address": plain(&address), "name": names.get(&address),
                "bytes_sent": sent, "bytes_received": received, "packets": packets,
                "flows": flows, "bytes_of_all": all})
        };
        Ok(rows.into_iter().map(talker).collect())
    }

    async fn conversations(&self, client: &Client, grain: Grain) -> Result<Value, Refusal> {
        type Row = (String, String, String, u64, u64, u64, u64);
        let rows: Vec<Row> = self.rows(client, grain).await?;
        let ends = rows.iter().flat_map(|row| [&row.0, &row.1]);
        let names = names(client, &host_names(&distinct(ends))).await;
        let told = |(from, to, service, bytes, packets, flows, all): Row| {
            json!({"client": plain(&from), "client_name": names.get(&from),
                "server": plain(&to), "server_name": names.get(&to), "service": service,
                "bytes": bytes, "packets": packets, "flows": flows, "bytes_of_all": all})
        };
        Ok(rows.into_iter().map(told).collect())
    }

    async fn interfaces(&self, client: &Client, grain: Grain) -> Result<Value, Refusal> {
        type Row = (String, u32, u64, u64, u64, u64);
        type Named = (String, u32, String, String, u64);
        let found: Vec<Row> = self.rows(client, grain).await?;
        let exporters = distinct(found.iter().map(|row| &row.0));
        let statement = interface_names(&exporters);
        let known = rows::<Named>(client, &statement).await.unwrap_or_default();
        let known: BTreeMap<(String, u32), _> = known
            .into_iter()
            .map(|(exporter, number, name, text, speed)| ((exporter, number), (name, text, speed)))
            .collect();
        // What the operator calls an exporter goes before what a name server does.
        let mut of_exporters = names(client, &host_names(&exporters)).await;
        of_exporters.extend(names(client, &exporter_names(&exporters)).await);
        let told = |(exporter, number, bytes_in, bytes_out, packets, flows): Row| {
            let key = (exporter, number);
            let (name, description, speed) = known.get(&key).cloned().unwrap_or_default();
            json!({"exporter": plain(&key.0), "exporter_name": of_exporters.get(&key.0),
                "interface": number, "name": name, "description": description,
                "speed": speed, "bytes_in": bytes_in, "bytes_out": bytes_out,
                "packets": packets, "flows": flows})
        };
        Ok(found.into_iter().map(told).collect())
    }
}

/// What addresses are called. An answer without names is better than none.
async fn names(client: &Client, statement: &Statement) -> BTreeMap<String, String> {
    let named = rows::<(String, String)>(client, statement).await;
    named.unwrap_or_default().into_iter().collect()
}

fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let distinct: BTreeSet<&String> = texts.collect();
    distinct.into_iter().cloned().collect()
}

/// An address as people write it: not `::ffff:192.0.2.1`.
fn plain(address: &str) -> String {
    let parsed = address.parse::<Ipv6Addr>();
    parsed.map_or_else(
        |_| address.to_owned(),
        |address| address.to_canonical().to_string(),
    )
}
