//! The stage alone, from memory: marks, rows with them, blocks with them.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flowsluice::batch::{BATCH_ROWS, Batch};
use flowsluice::config::{self, Enrich};
use flowsluice::decode::{BURST_FLOWS, Decoder, FlowSink, Shared};
use flowsluice::enrich::dns::{Dns, Hosts};
use flowsluice::enrich::parts::{Learned, Parts};
use flowsluice::enrich::{Enricher, Published};
use flowsluice::flow::{Address, Flow};
use flowsluice::ledger::{Ledger, WorkerCounts};
use flowsluice::store::{Encoder, SideRows, Store};
use flowsluice::units::UnixNanos;
use tokio::runtime::Runtime;

use super::{FLOWS, ROUND, random, recipe};
use crate::cpu;
use crate::options::Options;
use crate::report::{Section, Table};
use crate::rounds::{self, Figure, Round};
use crate::streams::Stream;

/// Names that are known.
const NAMES: u64 = 25_000;
/// Until they must be.
const NAMES_TIME_MAX: Duration = Duration::from_secs(60);
/// How often all are asked for again that found no room.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// A table of names is not made more often than once a second.
const TABLE_EVERY: Duration = Duration::from_millis(1_500);
/// Batches that make a block.
const BATCHES: usize = FLOWS / BATCH_ROWS;

/// Measures what is added for nothing, for services, and for everything in `config`.
///
/// # Errors
/// When something cannot be loaded.
pub fn measure(config: &Enrich, options: &Options, section: &mut Section) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let bursts = Bursts::simulated()?;
    let everything = Everything::load(config, &bursts, &runtime)?;
    let mut table = Table::new([
        "addresses",
        "known",
        "append to a batch, ns a flow",
        "mark the batch",
        "both, in one go",
        "encode and compress, ns a row",
        "block, bytes a row",
    ]);
    for (name, bursts) in [
        ("of the traffic model", bursts.clone()),
        ("random", bursts.with(&random(1))),
    ] {
        let mut stages = [
            Stage::new("nothing", &bursts, None),
            Stage::new("services", &bursts, Some(services())),
            Stage::new("everything", &bursts, Some(everything.enricher(config))),
        ];
        for row in rows(&mut stages, options)? {
            table.row([vec![name.to_owned()], row].concat());
        }
    }
    section.table(
        &format!(
            "The stage from memory, {} ms a figure and round, thread CPU time. Bursts are the \
             datagrams of 8 exporters of NetFlow v9, 25 % IPv6; a batch is marked when its 4096 \
             rows are there. Known, everything: {}. What the copy of a burst costs that each pass \
             begins with is taken off.",
            ROUND.as_millis(),
            everything.told,
        ),
        &table,
    );
    runtime.shutdown_background();
    Ok(())
}

fn rows(stages: &mut [Stage<'_>], options: &Options) -> Result<Vec<Vec<String>>> {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name).collect();
    let mut candidates: Vec<Round<'_, [f64; 5]>> = Vec::new();
    for stage in stages {
        candidates.push(Box::new(move || Ok(stage.round())));
    }
    let measured = rounds::alternate(options.rounds(), &mut candidates)?;
    let row = |(name, samples): (&str, Vec<[f64; 5]>)| {
        let figure = |at: usize| Figure::of(samples.iter().map(|s| s[at])).to_string();
        let mut row = vec![name.to_owned()];
        row.extend((0..5).map(figure));
        row
    };
    Ok(names.into_iter().zip(measured).map(row).collect())
}

/// Flows as the decoder hands them on: those of a datagram together.
#[derive(Clone, Default)]
struct Bursts {
    flows: Vec<Flow>,
    each: Vec<Range<usize>>,
}

impl FlowSink for Bursts {
    fn flows(&mut self, flows: &mut [Flow]) {
        let begin = self.flows.len();
        self.flows.extend_from_slice(flows);
        self.each.push(begin..self.flows.len());
    }
}

impl Bursts {
    fn simulated() -> Result<Self> {
        let stream = Stream::new(&recipe(0.25), UnixNanos::now())?;
        let config = config::Decode::default();
        let mut decoder = Decoder::new(&config, &[], Arc::new(Shared::default()));
        let (mut counts, mut bursts) = (WorkerCounts::default(), Self::default());
        for datagram in stream.announcements(UnixNanos::now()) {
            decoder.decode(&datagram, &mut counts, &mut bursts);
        }
        let data = stream.data();
        for index in 0..data.len() {
            let datagram = data.get(index, UnixNanos::now());
            decoder.decode(&datagram, &mut counts, &mut bursts);
        }
        ensure!(bursts.flows.len() > FLOWS / 2, "too few flows");
        Ok(bursts)
    }

    /// The same flows with other addresses.
    fn with(&self, addresses: &[Address]) -> Self {
        let mut bursts = self.clone();
        for (flow, pair) in bursts.flows.iter_mut().zip(addresses.chunks(2).cycle()) {
            (flow.src_addr, flow.dst_addr) = (pair[0], pair[1]);
        }
        bursts
    }

    /// CPU ns a flow of `take`, which gets a copy of each burst, over [`ROUND`].
    fn pass(&self, mut take: impl FnMut(&mut [Flow])) -> f64 {
        let (mut used, mut flows) = (Duration::ZERO, 0);
        let mut copy = self.flows[..BURST_FLOWS].to_vec();
        while used < ROUND {
            let begun = cpu::of_this_thread();
            for burst in &self.each {
                let copy = &mut copy[..burst.len()];
                copy.copy_from_slice(&self.flows[burst.clone()]);
                take(black_box(copy));
            }
            used += cpu::of_this_thread() - begun;
            flows += self.flows.len();
        }
        used.as_nanos() as f64 / flows as f64
    }

    /// Addresses, those of most flows first.
    fn by_use(&self) -> Vec<Address> {
        let mut uses = std::collections::HashMap::<Address, u32>::new();
        for flow in &self.flows {
            *uses.entry(flow.src_addr).or_default() += 1;
            *uses.entry(flow.dst_addr).or_default() += 1;
        }
        let mut all: Vec<_> = uses.into_iter().collect();
        all.sort_unstable_by_key(|(address, uses)| (u32::MAX - uses, *address));
        all.into_iter().map(|(address, _)| address).collect()
    }
}

/// One that marks, or not, and what comes behind it.
struct Stage<'a> {
    name: &'static str,
    bursts: &'a Bursts,
    enricher: Option<Enricher>,
    batch: Batch,
    full: Vec<Batch>,
    encoder: Encoder,
}

impl<'a> Stage<'a> {
    fn new(name: &'static str, bursts: &'a Bursts, enricher: Option<Enricher>) -> Self {
        let empty = || match enricher {
            Some(_) => Batch::new(BATCH_ROWS).with_labels(),
            None => Batch::new(BATCH_ROWS),
        };
        let (batch, full) = (empty(), (0..BATCHES).map(|_| empty()).collect());
        let mut stage = Self {
            name,
            bursts,
            enricher,
            batch,
            full,
            encoder: Encoder::default(),
        };
        stage.fill();
        stage
    }

    fn fill(&mut self) {
        let mut bursts = self.bursts.each.iter().cycle();
        for batch in &mut self.full {
            for burst in &mut bursts {
                let flows = &self.bursts.flows[burst.clone()];
                batch.append(&flows[..flows.len().min(batch.room())]);
                if batch.room() == 0 {
                    break;
                }
            }
            if let Some(enricher) = &mut self.enricher {
                batch.mark(enricher);
            }
        }
    }

    /// Append, mark and both, ns a flow; encode, ns a row; bytes a row.
    fn round(&mut self) -> [f64; 5] {
        let Self {
            bursts,
            enricher,
            batch,
            full,
            encoder,
            ..
        } = self;
        let copy = bursts.pass(|flows| {
            black_box(flows);
        });
        let without = bursts.pass(|flows| append(batch, &mut None, flows)) - copy;
        let both = bursts.pass(|flows| append(batch, enricher, flows)) - copy;
        let (mut used, mut rows, mut bytes) = (Duration::ZERO, 0, 0);
        while used < ROUND {
            let begun = cpu::of_this_thread();
            full.iter_mut().for_each(|batch| encoder.add(batch));
            let block = encoder.finish(String::new());
            used += cpu::of_this_thread() - begun;
            rows += block.rows;
            bytes += block.compressed.len();
        }
        let a_row = |what: f64| what / rows as f64;
        let encode = a_row(used.as_nanos() as f64);
        [without, both - without, both, encode, a_row(bytes as f64)]
    }
}

/// What a worker does with a burst; a full batch is marked and emptied, here in the same thread.
fn append(batch: &mut Batch, enricher: &mut Option<Enricher>, flows: &[Flow]) {
    if batch.room() < flows.len() {
        if let Some(enricher) = enricher {
            batch.mark(enricher);
        }
        batch.clear();
    }
    batch.append(flows);
}

/// The default of a collector: no file, no server.
fn services() -> Enricher {
    let published = Arc::new(Published::default());
    published.publish(Parts::new(&Enrich::default()).tables(&Learned::default()));
    Enricher::new(published, None, true)
}

struct Everything {
    published: Arc<Published>,
    /// Whoever asks for names that are not known; hardly any question is sent.
    dns: Dns,
    _store: Store,
    told: String,
}

impl Everything {
    fn load(config: &Enrich, bursts: &Bursts, runtime: &Runtime) -> Result<Self> {
        let _inside = runtime.enter();
        let (batch, ledger) = (config::Batch::default(), Ledger::new(1));
        let counts = Arc::clone(&ledger.store);
        let (store, _) = Store::start(&config::Store::default(), None, counts, 1, &batch);
        let begun = Instant::now();
        let mut parts = Parts::new(config);
        let faults = parts.load();
        ensure!(faults.is_empty(), "{faults:?}");
        let took = begun.elapsed().as_secs_f64();
        let (hosts, names_took) = learn(config, bursts, store.side_rows(), runtime)?;
        let told = format!(
            "City and AS databases, {} networks, {} threats, {} applications, loaded in \
             {took:.2} s; names of {} addresses, learned in {names_took:.1} s, {:.1} MiB",
            super::files::NETWORKS,
            super::files::THREATS,
            super::files::APPLICATIONS,
            hosts.ids() - 1,
            hosts.memory_bytes() as f64 / 1_048_576.0,
        );
        let published = Arc::new(Published::default());
        published.publish(parts.tables(&Learned {
            hosts,
            ..Learned::default()
        }));
        let seldom = config::Dns {
            rate_max: 1,
            ..config.dns.clone()
        };
        Ok(Self {
            published,
            dns: Dns::start(&seldom, store.side_rows(), runtime.handle()),
            _store: store,
            told,
        })
    }

    fn enricher(&self, config: &Enrich) -> Enricher {
        let published = Arc::clone(&self.published);
        Enricher::new(published, Some(self.dns.asker()), config.services)
    }
}

/// Names of addresses, those of most flows among them, and the seconds until they were there.
fn learn(
    config: &Enrich,
    bursts: &Bursts,
    rows: SideRows,
    runtime: &Runtime,
) -> Result<(Arc<Hosts>, f64)> {
    let fast = config::Dns {
        rate_max: 100_000,
        queries_max: 512,
        ..config.dns.clone()
    };
    let dns = Dns::start(&fast, rows, runtime.handle());
    let (begun, mut asker) = (Instant::now(), dns.asker());
    // Some can have none, such as those for documentation: it ends when there are no more to ask.
    let (addresses, mut queries) = (bursts.by_use(), 0);
    loop {
        addresses.iter().for_each(|address| asker.ask(*address));
        thread::sleep(ASK_EVERY);
        let counts = dns.counts();
        if counts.names >= NAMES || counts.queries == queries && counts.under_way == 0 {
            break;
        }
        ensure!(begun.elapsed() < NAMES_TIME_MAX, "no names: {counts:?}");
        queries = counts.queries;
    }
    // The last ones come with the next table.
    thread::sleep(TABLE_EVERY);
    ensure!(dns.snapshot().ids() > 1, "no names: {:?}", dns.counts());
    Ok((dns.snapshot(), begun.elapsed().as_secs_f64()))
}
