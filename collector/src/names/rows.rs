//! Names as rows of the tables `interfaces`, `applications` and `vrfs`.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{NameBook, SavedName, Subject};
use crate::flow::Address;
use crate::store::{SideRow, SideRows, SideTable};

/// How often names are taken in: the inbox has to hold what arrives in between.
const TAKE_IN_EVERY: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct InterfaceRow {
    exporter_addr: Ipv6Addr,
    observation_domain: u32,
    if_index: u32,
    name: String,
    description: String,
    source: &'static str,
    last_seen: u32,
}

impl SideRow for InterfaceRow {
    const TABLE: SideTable = SideTable::Interfaces;
}

#[derive(Serialize)]
struct ApplicationRow {
    exporter_addr: Ipv6Addr,
    application_id: String,
    name: String,
    description: String,
    last_seen: u32,
}

impl SideRow for ApplicationRow {
    const TABLE: SideTable = SideTable::Applications;
}

#[derive(Serialize)]
struct VrfRow {
    exporter_addr: Ipv6Addr,
    observation_domain: u32,
    vrf: u32,
    name: String,
    last_seen: u32,
}

impl SideRow for VrfRow {
    const TABLE: SideTable = SideTable::Vrfs;
}

/// Makes rows of what is new in `book`, as long as it is not aborted.
pub async fn keep(book: Arc<NameBook>, rows: SideRows) {
    let mut turns = tokio::time::interval(TAKE_IN_EVERY);
    loop {
        turns.tick().await;
        take_in(&book, &rows);
    }
}

/// Takes in what workers left in `book` and makes rows of what is new.
pub fn take_in(book: &NameBook, rows: &SideRows) {
    take_in_moved(book, rows, |last_seen_s| last_seen_s);
}

/// The same with times that `moved` moves: those of a capture that is stored as of now.
pub fn take_in_moved(book: &NameBook, rows: &SideRows, moved: impl Fn(u32) -> u32) {
    book.take_in(|name| {
        let last_seen_s = moved(name.last_seen_s);
        push(
            rows,
            SavedName {
                last_seen_s,
                ..name
            },
        );
    });
}

fn push(rows: &SideRows, saved: SavedName) {
    let SavedName {
        exporter,
        observation_domain,
        subject,
        name,
        description,
        last_seen_s: last_seen,
    } = saved;
    let exporter_addr = Ipv6Addr::from(Address::from(exporter));
    match subject {
        Subject::Interface(if_index) => rows.push(&InterfaceRow {
            exporter_addr,
            observation_domain,
            if_index,
            name,
            description,
            source: "options",
            last_seen,
        }),
        Subject::Application(id) => rows.push(&ApplicationRow {
            exporter_addr,
            application_id: id.to_string(),
            name,
            description,
            last_seen,
        }),
        Subject::Vrf(vrf) => rows.push(&VrfRow {
            exporter_addr,
            observation_domain,
            vrf,
            name,
            last_seen,
        }),
    }
}
