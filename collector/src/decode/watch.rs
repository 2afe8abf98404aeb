//! Tells in the log what changes about exporters: a new one, and another sampling rate.
//!
//! In: the status of all exporters, every [`LOOK_EVERY`]. Out: at most [`LINES_MAX`] lines a look.
//! Owner: one task of the runtime beside the workers. Each rate of an exporter is told once, so one
//! whose flows have several samplers does not fill the log; nor do invented exporters.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::MissedTickBehavior;
use tracing::info;

use super::shared::{DomainKey, ExporterStatus, Shared};
use crate::flow::SamplingSource;

/// How often the exporters are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Lines of one look; what is left over is told by the next ones.
const LINES_MAX: usize = 20;
/// Rates of an exporter and domain that are told; one with more is not told any more.
const RATES_MAX: usize = 8;

/// Something to tell of an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Flows of it came for the first time.
    New(ExporterStatus),
    /// Its flows have another sampling rate than at the last look.
    Rate {
        /// The exporter as it is now.
        now: ExporterStatus,
        /// Its rate before; 0 is unknown.
        before: u32,
    },
}

/// What was told of exporters.
#[derive(Debug, Default)]
pub struct Watch(HashMap<DomainKey, Told>);

#[derive(Debug, Default)]
struct Told {
    rate: u32,
    rates: Vec<u32>,
}

impl Watch {
    /// What is to be told of `exporters`. Those that are gone are forgotten.
    pub fn due(&mut self, exporters: &[ExporterStatus]) -> Vec<Notice> {
        let mut due = Vec::new();
        let mut told = HashMap::with_capacity(exporters.len());
        for now in exporters.iter().filter(|exporter| exporter.flows > 0) {
            let key = now.key();
            let mut of_it = match self.0.remove(&key) {
                Some(of_it) => of_it,
                None if due.len() == LINES_MAX => continue,
                None => {
                    due.push(Notice::New(*now));
                    Told {
                        rate: now.sampling_rate,
                        rates: vec![now.sampling_rate],
                    }
                }
            };
            if of_it.rate != now.sampling_rate && due.len() < LINES_MAX {
                let before = std::mem::replace(&mut of_it.rate, now.sampling_rate);
                let is_new = !of_it.rates.contains(&now.sampling_rate);
                if is_new && of_it.rates.len() < RATES_MAX {
                    of_it.rates.push(now.sampling_rate);
                    due.push(Notice::Rate { now: *now, before });
                }
            }
            told.insert(key, of_it);
        }
        self.0 = told;
        due
    }
}

impl Notice {
    fn log(&self) {
        let (Self::New(now) | Self::Rate { now, .. }) = self;
        let (exporter, source) = (now.exporter_addr, now.source);
        let (domain, protocol) = (now.observation_domain, now.flow_type);
        let (rate, told_by) = (now.sampling_rate, now.sampling_source);
        match self {
            Self::New(_) if told_by == SamplingSource::Unknown => {
                let sampling = "unknown";
                info!(%exporter, %source, domain, ?protocol, sampling, "a new exporter");
            }
            Self::New(_) => {
                info!(%exporter, %source, domain, ?protocol, rate, ?told_by, "a new exporter");
            }
            Self::Rate { before, .. } => {
                info!(
                    %exporter, %source, domain, ?protocol, rate, before, ?told_by,
                    "an exporter's sampling rate changed"
                );
            }
        }
    }
}

/// Looks at the exporters and logs, until the task is dropped.
pub async fn tell(shared: Arc<Shared>) {
    let mut watch = Watch::default();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        for notice in watch.due(&shared.exporters()) {
            notice.log();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::decode::sequence::SequenceStatus;
    use crate::flow::FlowType;
    use crate::units::UnixNanos;

    fn status(host: u8, rate: u32, flows: u64) -> ExporterStatus {
        let source = IpAddr::from([192, 0, 2, host]);
        ExporterStatus {
            source,
            exporter_addr: source,
            flow_type: FlowType::Netflow9,
            observation_domain: 0,
            last_seen: UnixNanos::default(),
            datagrams: 1,
            flows,
            templates: 1,
            sampling_rate: rate,
            sampling_source: SamplingSource::Options,
            sequence: SequenceStatus::default(),
        }
    }

    #[test]
    fn a_rate_is_told_once_however_often_it_comes_back() {
        let mut watch = Watch::default();
        let one = |rate| [status(1, rate, 1)];
        assert_eq!(watch.due(&one(100)), [Notice::New(status(1, 100, 1))]);
        assert_eq!(watch.due(&one(100)), []);
        let [now] = one(200);
        assert_eq!(watch.due(&one(200)), [Notice::Rate { now, before: 100 }]);
        for rate in [100, 200, 100, 200] {
            assert_eq!(watch.due(&one(rate)), [], "{rate}");
        }
        let told = (300..400).map(|rate| watch.due(&one(rate)).len());
        assert_eq!(told.sum::<usize>(), RATES_MAX - 2);
    }

    #[test]
    fn many_new_exporters_are_told_a_few_at_a_time_and_those_without_flows_never() {
        let mut watch = Watch::default();
        let many: Vec<_> = (0..50).map(|host| status(host, 1, 1)).collect();
        let lines: Vec<_> = (0..4).map(|_| watch.due(&many).len()).collect();
        assert_eq!(lines, [20, 20, 10, 0]);
        assert_eq!(watch.due(&[status(99, 1, 0)]), []);
    }
}
