//! What a worker does with the flows of a datagram: one look at each table for all of them.

use std::sync::Arc;

use super::dns::Asker;
use super::geo::{self, Places};
use super::interfaces::ExporterInterfaces;
use super::marks::{Lane, Locality, Marks};
use super::recent::{Ids, Recent};
use super::sides::{self, Sides};
use super::tables::{Published, Tables};
use crate::batch::Marked;
use crate::decode::BURST_FLOWS;
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
    marks: Box<Marks>,
    recent: Recent,
    missed: Box<Missed>,
    sides: [Sides; BURST_FLOWS],
}

/// Addresses of a burst of which nothing is remembered.
#[derive(Debug)]
struct Missed {
    count: usize,
    addresses: [Address; 2 * BURST_FLOWS],
    /// Whose each is: 0 a source, 1 a destination; and of which flow.
    of: [(u8, u8); 2 * BURST_FLOWS],
    /// What the tables of places, sites and hosts say.
    ids: [[u32; 2 * BURST_FLOWS]; 3],
}

impl Missed {
    const EMPTY: Self = Self {
        count: 0,
        addresses: [Address::UNKNOWN; 2 * BURST_FLOWS],
        of: [(0, 0); 2 * BURST_FLOWS],
        ids: [[0; 2 * BURST_FLOWS]; 3],
    };

    #[inline]
    fn push(&mut self, side: usize, number: usize, address: Address) {
        self.addresses[self.count] = address;
        self.of[self.count] = (side as u8, number as u8);
        self.count += 1;
    }
}

const _: () = assert!(BURST_FLOWS <= u8::MAX as usize + 1, "a number is a u8");

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
            marks: Box::default(),
            recent: Recent::new(),
            missed: Box::new(Missed::EMPTY),
            sides: [Sides::default(); BURST_FLOWS],
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

    /// Marks `flows`, at most [`BURST_FLOWS`], and gives those without AS numbers the ones that the
    /// tables know.
    ///
    /// # Panics
    /// When there are more.
    pub fn mark(&mut self, flows: &mut [Flow]) -> Marked<'_> {
        assert!(flows.len() <= BURST_FLOWS, "the decoder's burst");
        self.endpoints(flows);
        self.exporters(flows);
        if self.has_services {
            self.services(flows);
        }
        Marked::new(&self.tables, &self.marks)
    }

    fn endpoints(&mut self, flows: &mut [Flow]) {
        let n = flows.len();
        if let [first, ..] = flows {
            self.recent.age(first.time_received_s);
        }
        self.recall(flows);
        self.look_up();
        let Self { tables, marks, .. } = self;
        Self::systems(&tables.places, marks, flows);
        if tables.vendors.count() > 0 {
            Self::vendors(tables, marks, flows);
        } else {
            marks.lane_mut(Lane::SrcVendor)[..n].fill(0);
            marks.lane_mut(Lane::DstVendor)[..n].fill(0);
        }
    }

    /// Marks what is remembered of sources and destinations; the others are `missed`.
    fn recall(&mut self, flows: &[Flow]) {
        let Self {
            marks,
            missed,
            recent,
            ..
        } = self;
        missed.count = 0;
        for (number, flow) in flows.iter().enumerate() {
            for (side, address) in [flow.src_addr, flow.dst_addr].into_iter().enumerate() {
                match recent.get(address) {
                    Some(ids) => set(marks, side, number, ids),
                    None => missed.push(side, number, address),
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
    fn systems(places: &Places, marks: &mut Marks, flows: &mut [Flow]) {
        for (number, flow) in flows.iter_mut().enumerate() {
            let source = marks.lane(Lane::SrcPlace)[number];
            let destination = marks.lane(Lane::DstPlace)[number];
            marks.lane_mut(Lane::SrcAs)[number] = system(places, source, &mut flow.src_as);
            marks.lane_mut(Lane::DstAs)[number] = system(places, destination, &mut flow.dst_as);
            let is_private = places.is_private(source) & places.is_private(destination);
            let is_told = !(flow.src_addr.is_unknown() | flow.dst_addr.is_unknown());
            let locality = match (is_told, is_private) {
                (false, _) => Locality::Unknown,
                (true, true) => Locality::Private,
                (true, false) => Locality::Public,
            };
            marks.locality[number] = locality as u8;
        }
    }

    fn vendors(tables: &Tables, marks: &mut Marks, flows: &[Flow]) {
        for (number, flow) in flows.iter().enumerate() {
            let (source, destination) = match flow.detail.is_written() {
                true => (flow.detail.src_mac, flow.detail.dst_mac),
                false => (0, 0),
            };
            marks.lane_mut(Lane::SrcVendor)[number] = tables.vendors.find(source);
            marks.lane_mut(Lane::DstVendor)[number] = tables.vendors.find(destination);
        }
    }

    /// The exporter, and the interfaces by its numbers for them.
    fn exporters(&mut self, flows: &[Flow]) {
        let Self { tables, marks, .. } = self;
        // That of a datagram is nearly always the same.
        let mut exporter = Address::UNKNOWN;
        let (mut id, mut interfaces): (u32, Option<ExporterInterfaces<'_>>) = (0, None);
        for (number, flow) in flows.iter().enumerate() {
            if flow.exporter_addr != exporter {
                exporter = flow.exporter_addr;
                id = tables.exporters.find(exporter);
                interfaces = tables.interfaces.exporter(exporter);
            }
            let interface = |if_index| interfaces.map_or(0, |of| of.get(if_index));
            marks.lane_mut(Lane::Exporter)[number] = id;
            marks.lane_mut(Lane::InIf)[number] = interface(flow.in_if);
            marks.lane_mut(Lane::OutIf)[number] = interface(flow.out_if);
        }
    }

    fn services(&mut self, flows: &[Flow]) {
        let Self {
            tables,
            marks,
            sides,
            ..
        } = self;
        let sides = &mut sides[..flows.len()];
        sides::find(&tables.applications, flows, sides);
        for (number, sides) in sides.iter().enumerate() {
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
