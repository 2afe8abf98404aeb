//! What the tables take of ClickHouse's disks.

use std::fmt;

use super::{Labels, Out};
use crate::store::occupancy::{DiskOccupancy, Occupancy, TableOccupancy};

impl Out<'_> {
    pub(super) fn occupancy(&mut self, occupancy: &Occupancy) -> fmt::Result {
        let Occupancy { tables, disks } = occupancy;
        let of_tables = |value: fn(&TableOccupancy) -> u64| {
            tables.iter().map(move |of| {
                let labels: Labels = vec![("table", of.table.clone())];
                (labels, value(of))
            })
        };
        self.gauges(
            "flowsluice_clickhouse_parts",
            "Parts of the table that queries read, a minute ago at most",
            of_tables(|table| table.parts),
        )?;
        self.gauges(
            "flowsluice_clickhouse_rows",
            "Rows of the table",
            of_tables(|table| table.rows),
        )?;
        self.gauges(
            "flowsluice_clickhouse_bytes",
            "Bytes of the table on disk",
            of_tables(|table| table.bytes),
        )?;
        let of_disks = |value: fn(&DiskOccupancy) -> u64| {
            disks.iter().map(move |of| {
                let labels: Labels = vec![("disk", of.disk.clone())];
                (labels, value(of))
            })
        };
        self.gauges(
            "flowsluice_clickhouse_disk_free_bytes",
            "Bytes that are free on the disk of ClickHouse",
            of_disks(|disk| disk.free_bytes),
        )?;
        self.gauges(
            "flowsluice_clickhouse_disk_total_bytes",
            "Bytes that the disk of ClickHouse has",
            of_disks(|disk| disk.total_bytes),
        )
    }
}
