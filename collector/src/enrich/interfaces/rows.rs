//! Interfaces as rows of the table `interfaces`, beside those of [`crate::names::rows`].

use std::net::Ipv6Addr;

use serde::Serialize;

use super::{Interface, StaticInterfaces};
use crate::flow::Address;
use crate::store::{SideRow, SideRows, SideTable};

/// Somebody other than options records says it. `observation_domain` is 0: it holds in all.
#[derive(Debug, Serialize)]
struct InterfaceRow<'a> {
    exporter_addr: Ipv6Addr,
    if_index: u32,
    name: &'a str,
    description: &'a str,
    speed: u64,
    source: &'static str,
    last_seen: u32,
}

impl SideRow for InterfaceRow<'_> {
    const TABLE: SideTable = SideTable::Interfaces;
}

/// Makes a row of each static interface, as of `now_s` (seconds since the epoch). To be called when
/// files were read, and once a day, since rows are kept only so long after they were seen last.
/// What finds no room is counted as `store_backlog`.
pub fn tell_static(interfaces: &StaticInterfaces, rows: &SideRows, now_s: u32) {
    for (exporter, if_index, interface) in interfaces.iter() {
        push(rows, "static", exporter, if_index, interface, now_s);
    }
}

/// Makes a row of what an agent said; false when there was no room for it.
pub(in crate::enrich) fn tell_polled(
    rows: &SideRows,
    exporter: Address,
    if_index: u32,
    interface: &Interface,
    now_s: u32,
) -> bool {
    let has_room = rows.has_room();
    if has_room {
        push(rows, "snmp", exporter, if_index, interface, now_s);
    }
    has_room
}

fn push(
    rows: &SideRows,
    source: &'static str,
    exporter: Address,
    if_index: u32,
    interface: &Interface,
    last_seen: u32,
) {
    let Interface { name, alias, speed } = interface;
    rows.push(&InterfaceRow {
        exporter_addr: exporter.into(),
        if_index,
        name,
        description: alias,
        speed: *speed,
        source,
        last_seen,
    });
}
