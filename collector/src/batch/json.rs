//! A flow as JSON, with the names and values that the table `flows` shows.

use std::io::{self, Write};

use super::schema::{COLUMNS, Source};
use super::{Beside, Enriched};
use crate::decode::ExtraRow;
use crate::flow::Flow;

/// Writes one JSON object and a newline. Columns that ClickHouse computes are there too.
///
/// # Errors
/// Those of `out`.
pub fn write_row(flow: &Flow, out: &mut impl Write) -> io::Result<()> {
    write_row_with(flow, Beside::default(), 0, out)
}

/// The same with what comes beside it, flow `number` of those that it came with.
///
/// # Errors
/// Those of `out`.
pub fn write_row_with(
    flow: &Flow,
    beside: Beside<'_>,
    number: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let Beside { extra, marked } = beside;
    let extra = extra.map(|extra| extra.of(number)).unwrap_or_default();
    let enriched = Enriched::of(marked, number);
    for (i, column) in COLUMNS.iter().enumerate() {
        let before = if i == 0 { '{' } else { ',' };
        write!(out, "{before}\"{}\":", column.name)?;
        match column.source {
            Source::Map => write_map(extra, out)?,
            _ => (column.json)(flow, &enriched, out)?,
        }
    }
    out.write_all(b"}\n")
}

fn write_map(extra: ExtraRow<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{")?;
    for (i, (name, value)) in extra.enumerate() {
        let before = if i == 0 { "" } else { "," };
        write!(out, "{before}\"{name}\":")?;
        serde_json::to_writer(&mut *out, value)?;
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::flow::{Address, Detail, DetailFields, Direction, FlowType, Frame, SamplingSource};

    fn row(flow: &Flow) -> Value {
        let mut out = Vec::new();
        write_row(flow, &mut out).unwrap();
        assert_eq!(out.pop(), Some(b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_row_has_the_names_and_values_of_the_table() {
        let flow = Flow {
            time_received_s: 1_767_323_045,
            flow_start_ms: 1_767_323_040_100,
            flow_end_ms: 1_767_323_044_678,
            src_addr: Address::from_v4([192, 0, 2, 1]),
            detail: Detail::from(DetailFields {
                frame: Frame {
                    src_mac: 0x0011_2233_4455,
                    ..Frame::EMPTY
                },
                mpls_labels: [16, 17, 0, 0, 0, 0, 0, 0, 0, 0],
                mpls_count: 2,
                ..*Detail::EMPTY
            }),
            raw_bytes: 1500,
            raw_packets: 2,
            sampling_rate: 100,
            sampling_source: SamplingSource::Options,
            flow_type: FlowType::Netflow9,
            direction: Direction::Egress,
            ..Flow::EMPTY
        };
        let row = row(&flow);
        assert_eq!(row["time_received"], "2026-01-02 03:04:05");
        assert_eq!(row["flow_start"], "2026-01-02 03:04:00.100");
        assert_eq!(row["flow_end"], "2026-01-02 03:04:04.678");
        assert_eq!(row["flow_duration_ms"], 4578);
        assert_eq!(row["src_addr"], "192.0.2.1");
        assert_eq!(row["dst_addr"], "::");
        assert_eq!(row["src_mac"], 0x0011_2233_4455_u64);
        assert_eq!(row["raw_bytes"], 1500);
        assert_eq!(row["bytes"], 150_000);
        assert_eq!(row["packets"], 200);
        assert_eq!(row["sampling_source"], "options");
        assert_eq!(row["flow_type"], "netflow9");
        assert_eq!(row["direction"], "egress");
        assert_eq!(row["mpls_labels"], json!([16, 17]));
        assert_eq!(row.as_object().unwrap().len(), COLUMNS.len());
    }

    #[test]
    fn a_flow_without_sampling_rate_counts_as_one() {
        let flow = Flow {
            raw_bytes: 40,
            ..Flow::EMPTY
        };
        assert_eq!(row(&flow)["bytes"], 40);
    }

    #[test]
    fn the_start_of_a_flow_without_end_is_kept() {
        let flow = Flow {
            flow_start_ms: 1_767_323_040_100,
            ..Flow::EMPTY
        };
        assert_eq!(row(&flow)["flow_start"], "2026-01-02 03:04:00.100");
        assert_eq!(row(&flow)["flow_end"], "2026-01-02 03:04:00.100");
    }
}
