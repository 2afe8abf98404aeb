//! The workers' threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use anyhow::Context;
use flowsluice::batch::Batcher;
use flowsluice::config::Config;
use flowsluice::decode::{self, Decoder};
use flowsluice::ledger::{Ledger, WorkerLedger};
use flowsluice::receive::allow::{AllowList, Followed};
use flowsluice::receive::limit::{Limiting, Limits};
use flowsluice::receive::tcp::TcpReceiver;
use flowsluice::receive::tee::Tee;
use flowsluice::receive::{self, Receiver};
use flowsluice::store::WorkerQueue;
use flowsluice::worker::Worker;
use flowsluice::worker::sharing::{self, Sharing};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::drop_capabilities;

/// What all workers are given.
pub(super) struct Crew<'a> {
    pub(super) config: &'a Config,
    pub(super) cpus: &'a [Option<usize>],
    pub(super) shared: &'a Arc<decode::Shared>,
    pub(super) allow: &'a Arc<AllowList>,
    pub(super) limits: &'a Arc<Limits>,
    pub(super) tee: Option<Tee>,
    pub(super) ledger: &'a Ledger,
    pub(super) stop: &'a Arc<AtomicBool>,
    pub(super) failed: mpsc::UnboundedSender<String>,
}

impl Crew<'_> {
    /// Starts a worker for each of `receivers`, and behind them one for `tcp`. As many `queues`.
    pub(super) fn start(
        self,
        receivers: Vec<Receiver>,
        tcp: Option<TcpReceiver>,
        queues: Vec<WorkerQueue>,
    ) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let Config {
            decode, receive, ..
        } = self.config;
        let mut queues = queues.into_iter();
        let sharing = sharing::among(receivers.len(), receive);
        let mut workers = Vec::with_capacity(queues.len());
        let parts = receivers.into_iter().zip(sharing).zip(queues.by_ref());
        for ((receiver, sharing), queue) in parts {
            let decoder = Decoder::new(decode, &receive.listeners, Arc::clone(self.shared))
                .allowing(Followed::new(self.allow));
            let thread = self.thread(workers.len(), Inlet::Udp(receiver), decoder, queue);
            let name = format!("worker-{}", workers.len());
            let limiting = Limiting::new(self.limits);
            let thread = thread.sharing(sharing).limiting(Some(limiting));
            let thread = thread.forwarding(self.tee.clone());
            workers.push(thread.spawn(name)?);
        }
        for (receiver, queue) in tcp.into_iter().zip(queues) {
            // The protocols of a UDP listener say nothing of a TCP port with the same number.
            let decoder = Decoder::new(decode, &[], Arc::clone(self.shared)).by_session();
            let thread = self.thread(workers.len(), Inlet::Tcp(receiver), decoder, queue);
            workers.push(thread.spawn("ipfix-tcp".into())?);
        }
        Ok(workers)
    }

    fn thread(
        &self,
        index: usize,
        receiver: Inlet,
        decoder: Decoder,
        queue: WorkerQueue,
    ) -> WorkerThread {
        WorkerThread {
            index,
            receiver,
            decoder,
            batcher: Batcher::new(&self.config.batch, queue)
                .with_extra(!self.config.decode.extra.is_empty()),
            sharing: None,
            limit: None,
            tee: None,
            ledger: self.ledger.worker(index),
            cpu: self.cpus.get(index).copied().flatten(),
            stop: Arc::clone(self.stop),
            failed: self.failed.clone(),
        }
    }
}

/// What a worker receives from.
enum Inlet {
    Udp(Receiver),
    Tcp(TcpReceiver),
}

/// What a worker's thread needs.
struct WorkerThread {
    index: usize,
    receiver: Inlet,
    decoder: Decoder,
    batcher: Batcher,
    sharing: Option<Sharing>,
    limit: Option<Limiting>,
    tee: Option<Tee>,
    ledger: WorkerLedger,
    cpu: Option<usize>,
    stop: Arc<AtomicBool>,
    failed: mpsc::UnboundedSender<String>,
}

impl WorkerThread {
    fn sharing(self, sharing: Option<Sharing>) -> Self {
        Self { sharing, ..self }
    }

    fn limiting(self, limit: Option<Limiting>) -> Self {
        Self { limit, ..self }
    }

    fn forwarding(self, tee: Option<Tee>) -> Self {
        Self { tee, ..self }
    }

    fn spawn(self, name: String) -> anyhow::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name(name)
            .spawn(move || self.run())
            .context("a worker's thread cannot be started")
    }

    fn run(self) {
        let Self {
            index,
            receiver,
            decoder,
            batcher,
            sharing,
            limit,
            tee,
            ledger,
            cpu,
            stop,
            failed,
        } = self;
        drop_capabilities();
        if let Some(cpu) = cpu
            && !receive::affinity::pin(cpu)
        {
            warn!(
                worker = index,
                cpu, "not pinned: the system refused; set receive.pin = false"
            );
        }
        let outcome = match receiver {
            Inlet::Udp(Receiver::IoUring(receiver)) => {
                Worker::new(receiver, decoder, batcher, ledger)
                    .sharing(sharing)
                    .limiting(limit)
                    .forwarding(tee)
                    .run(&stop)
            }
            Inlet::Udp(Receiver::Recvmmsg(receiver)) => {
                Worker::new(receiver, decoder, batcher, ledger)
                    .sharing(sharing)
                    .limiting(limit)
                    .forwarding(tee)
                    .run(&stop)
            }
            Inlet::Udp(Receiver::AfXdp(receiver)) => {
                Worker::new(receiver, decoder, batcher, ledger)
                    .sharing(sharing)
                    .limiting(limit)
                    .forwarding(tee)
                    .run(&stop)
            }
            Inlet::Tcp(receiver) => Worker::new(receiver, decoder, batcher, ledger).run(&stop),
        };
        if let Err(error) = outcome {
            error!(worker = index, %error, "the sockets cannot be read any more");
            // The receiver of this message lives until the workers are joined.
            let _ = failed.send(format!("worker {index}: cannot read its sockets: {error}"));
        }
    }
}
