//! The kit of the integration tests: Flowsluice seen from outside.
//!
//! In: the built binary, the ClickHouse library, a temporary folder a collector. Out: its status,
//! its ledger and its rows. Knows nothing of the collector's code, so it can be held against it.
//! The demo and the load task of `cargo xtask` stand on the same kit.

pub mod agent;
pub mod browser;
pub mod clickhouse;
pub mod collector;
pub mod crates;
pub mod duplicator;
pub mod generator;
pub mod grafana;
pub mod kernel;
pub mod load;
pub mod metrics;
pub mod mmdb;
pub mod name_server;
pub mod namespace;
pub mod node;
pub mod numbers;
pub mod outage;
pub mod packet;
pub mod pcap;
pub mod place;
pub mod process;
pub mod program;
pub mod promtool;
pub mod records;
pub mod sent_log;
pub mod settings;
pub mod soak;
pub mod sql;
pub mod standalone;
pub mod status;
pub mod terminal;
pub mod tls;
pub mod wire;

pub use browser::Browser;
pub use clickhouse::ClickHouse;
pub use collector::Collector;
pub use duplicator::Duplicator;
pub use generator::{Generator, Totals};
pub use name_server::NameServer;
pub use namespace::Veth;
pub use node::Node;
pub use process::Process;
pub use settings::{Settings, Store};
pub use status::{Ledger, Status, Stopped};
