//! How the rows of a batch are marked: one look at each table for many of them.

use std::sync::Arc;

use super::dns::Asker;
use super::geo::{self, Places};
use super::interfaces::ExporterInterfaces;
use super::keys::{KEYS, Keys};
use super::marks::{Lane, Locality, Marks};
use super::recent::{Ids, Recent};
use super::sides::{self, Sides};
use super::tables::{Published, Tables};
use crate::batch::Marked;
use crate::flow::{Address, Flow};

/// AS numbers that name nobody: none, and the one that stands for those of four bytes in protocols
/// of two (RFC 6793).
const AS_UNKNOWN: [u32; 2] = [0, 23_456];

/// Marks flows with what the tables of now know. Allocates nothing and waits for nobody.
#[derive(Debug)]
pub struct Enricher {
    published: Arc<Published>,
    epoch: u64,
    tables: Arc<Tables>,
    /// Asks for names that are not known; `None` where nobody wants any.
    asker: Option<Asker>,
    has_services: bool,
    keys: Box<Keys>,
    marks: Box<Marks>,
    recent: Recent,
    missed: Box<Missed>,
    sides: [Sides; KEYS],
}

/// Addresses of which nothing is remembered.
#[derive(Debug)]
struct Missed {
    count: usize,
    addresses: [Address; 2 * KEYS],
    /// Whose each is: 0 a source, 1 a destination; and of which flow.
    of: [(u8, u8); 2 * KEYS],
    /// What the tables of places, sites and hosts say.
    ids: [[u32; 2 * KEYS]; 3],
}

impl Missed {
    const EMPTY: Self = Self {
        count: 0,
        addresses: [Address::UNKNOWN; 2 * KEYS],
        of: [(0, 0); 2 * KEYS],
        ids: [[0; 2 * KEYS]; 3],
    };

    #[inline]
    fn push(&mut self, side: usize, number: usize, address: Address) {
        self.addresses[self.count] = address;
        self.of[self.count] = (side as u8, number as u8);
        self.count += 1;
    }
}

const _: () = assert!(KEYS <= u8::MAX as usize + 1, "a number is a u8");

/// Marks one side of a flow.
#[inline]
fn set(marks: &mut Marks, side: usize, number: usize, [place, site, host]: Ids) {
    const LANES: [[Lane; 3]; 2] = [
        [Lane::SrcPlace, Lane::SrcSite, Lane::SrcHost],
        [Lane::DstPlace, Lane::DstSite, Lane::DstHost],
    ];
    let [places, sites, hosts] = LANES[side];
    marks.lane_mut(places)[number] = place;
    marks.lane_mut(sites)[number] = site;
    marks.lane_mut(hosts)[number] = host;
}

impl Enricher {
    /// By what is `published`; names of sources and destinations are asked for by `asker`. Clients
    /// and services are told where `has_services`.
    #[must_use]
    pub fn new(published: Arc<Published>, asker: Option<Asker>, has_services: bool) -> Self {
        // Before the tables, so that it is never newer than they.
        let epoch = published.epoch();
        Self {
            tables: published.tables(),
            epoch,
            published,
            asker,
            has_services,
            keys: Box::default(),
            marks: Box::default(),
            recent: Recent::new(),
            missed: Box::new(Missed::EMPTY),
            sides: [Sides::default(); KEYS],
        }
    }

    /// True when there are newer tables.
    #[must_use]
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.published.epoch() != self.epoch
    }

    /// Takes the tables of now, unless they are just being put there.
    pub fn renew(&mut self) {
        let epoch = self.published.epoch();
        if let Some(tables) = self.published.try_tables() {
            self.tables = tables;
            self.epoch = epoch;
            self.recent.empty();
        }
    }

    /// The tables that it marks with.
    #[must_use]
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Where fields of flows are put for [`Enricher::mark`].
    pub fn keys(&mut self) -> &mut Keys {
        &mut self.keys
    }

    /// Marks the flows whose fields are in [`Enricher::keys`], and gives those without AS numbers
    /// the ones that the tables know.
    ///
    /// # Panics
    /// When there are more than [`KEYS`].
    pub fn mark(&mut self) -> (&Keys, &Marks) {
        assert!(self.keys.count <= KEYS, "as many as there is room for");
        self.endpoints();
        self.exporters();
        if self.has_services {
            self.services();
        }
        (&self.keys, &self.marks)
    }

    /// The same for `flows`, at most [`KEYS`].
    pub fn mark_flows(&mut self, flows: &mut [Flow]) -> Marked<'_> {
        self.keys.read(flows);
        self.mark();
        self.keys.write_systems(flows);
        Marked::new(&self.tables, &self.marks)
    }

    fn endpoints(&mut self) {
        let n = self.keys.count;
        if n > 0 {
            self.recent.age(self.keys.received_s);
        }
        self.recall();
        self.look_up();
        let Self {
            tables,
            marks,
            keys,
            ..
        } = self;
        Self::systems(&tables.places, marks, keys);
        if tables.vendors.count() > 0 {
            Self::vendors(tables, marks, keys);
        } else {
            marks.lane_mut(Lane::SrcVendor)[..n].fill(0);
            marks.lane_mut(Lane::DstVendor)[..n].fill(0);
        }
    }

    /// Marks what is remembered of sources and destinations; the others are `missed`.
    fn recall(&mut self) {
        let Self {
            keys,
            marks,
            missed,
            recent,
            ..
        } = self;
        missed.count = 0;
        for (side, addresses) in keys.addresses.iter().enumerate() {
            for (number, address) in addresses[..keys.count].iter().enumerate() {
                match recent.get(*address) {
                    Some(ids) => set(marks, side, number, ids),
                    None => missed.push(side, number, *address),
                }
            }
        }
    }

    /// Looks up what was missed, all of it table by table.
    fn look_up(&mut self) {
        let Self {
            tables,
            marks,
            asker,
            missed,
            recent,
            ..
        } = self;
        let n = missed.count;
        if n == 0 {
            return;
        }
        let addresses = &missed.addresses[..n];
        let [places, sites, hosts] = &mut missed.ids;
        tables.places.find(addresses, &mut places[..n]);
        match tables.sites.is_empty() {
            true => sites[..n].fill(0),
            false => tables.sites.find(addresses, &mut sites[..n]),
        }
        match asker {
            Some(asker) => tables.hosts.find_or_ask(addresses, &mut hosts[..n], asker),
            // Names are asked for those of exporters only, if at all.
            None => hosts[..n].fill(0),
        }
        for (at, address) in addresses.iter().enumerate() {
            let ids = [places[at], sites[at], hosts[at]];
            let (side, number) = missed.of[at];
            set(marks, usize::from(side), usize::from(number), ids);
            recent.put(*address, ids);
        }
    }

    /// Autonomous systems, and whether both sides are private.
    fn systems(places: &Places, marks: &mut Marks, keys: &mut Keys) {
        let ([src_addr, dst_addr], [src_as, dst_as]) = (&keys.addresses, &mut keys.systems);
        for number in 0..keys.count.min(KEYS) {
            let source = marks.lane(Lane::SrcPlace)[number];
            let destination = marks.lane(Lane::DstPlace)[number];
            marks.lane_mut(Lane::SrcAs)[number] = system(places, source, &mut src_as[number]);
            marks.lane_mut(Lane::DstAs)[number] = system(places, destination, &mut dst_as[number]);
            let is_private = places.is_private(source) & places.is_private(destination);
            let is_told = !(src_addr[number].is_unknown() | dst_addr[number].is_unknown());
            let locality = match (is_told, is_private) {
                (false, _) => Locality::Unknown,
                (true, true) => Locality::Private,
                (true, false) => Locality::Public,
            };
            marks.locality[number] = locality as u8;
        }
    }

    fn vendors(tables: &Tables, marks: &mut Marks, keys: &Keys) {
        for (macs, lane) in keys.macs.iter().zip([Lane::SrcVendor, Lane::DstVendor]) {
            let macs = &macs[..keys.count];
            for (mac, mark) in macs.iter().zip(marks.lane_mut(lane)) {
                *mark = tables.vendors.find(*mac);
            }
        }
    }

    /// The exporter, and the interfaces by its numbers for them.
    fn exporters(&mut self) {
        let Self {
            tables,
            marks,
            keys,
            ..
        } = self;
        // Rows of a datagram stand together, and have one exporter.
        let mut known = Address::UNKNOWN;
        let (mut id, mut interfaces): (u32, Option<ExporterInterfaces<'_>>) = (0, None);
        let [in_if, out_if] = &keys.interfaces;
        for (number, exporter) in keys.exporters[..keys.count].iter().enumerate() {
            if *exporter != known {
                known = *exporter;
                id = tables.exporters.find(known);
                interfaces = tables.interfaces.exporter(known);
            }
            let interface = |if_index| interfaces.map_or(0, |of| of.get(if_index));
            marks.lane_mut(Lane::Exporter)[number] = id;
            marks.lane_mut(Lane::InIf)[number] = interface(in_if[number]);
            marks.lane_mut(Lane::OutIf)[number] = interface(out_if[number]);
        }
    }

    fn services(&mut self) {
        let Self {
            tables,
            marks,
            keys,
            sides,
            ..
        } = self;
        sides::find(&tables.applications, keys, sides);
        for (number, sides) in sides[..keys.count].iter().enumerate() {
            marks.client_is_src[number] = u8::from(sides.client_is_src);
            marks.lane_mut(Lane::Service)[number] = sides.service;
            marks.lane_mut(Lane::Application)[number] = sides.application;
        }
    }
}

/// The autonomous system of an address: what the exporter said, else what its place says, else that
/// of private addresses, which has a name but no number.
#[inline]
fn system(places: &Places, place: u32, of_exporter: &mut u32) -> u32 {
    if AS_UNKNOWN.contains(of_exporter) {
        let known = places.as_number(place);
        if known != 0 {
            *of_exporter = known;
        } else if places.is_private(place) {
            return geo::PRIVATE_AS;
        }
    }
    *of_exporter
}
