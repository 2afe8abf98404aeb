//! Several ClickHouse servers: which one is written to, and how they do.

use std::fmt;

use super::{Labels, Out};
use crate::store::EndpointsStatus;

impl Out<'_> {
    /// Nothing where there is only one server.
    pub(super) fn servers(&mut self, status: &EndpointsStatus) -> fmt::Result {
        let EndpointsStatus {
            servers,
            failovers,
            blocks_moved_unanswered,
            rows_moved_unanswered,
        } = status;
        if servers.is_empty() {
            return Ok(());
        }
        let labels = |url: &str| -> Labels { vec![("url", url.to_owned())] };
        self.gauges(
            "flowsluice_store_server_up",
            "1 while the ClickHouse server answers",
            servers
                .iter()
                .map(|server| (labels(&server.url), u64::from(server.up))),
        )?;
        self.gauges(
            "flowsluice_store_server_in_use",
            "1 for the ClickHouse server that rows go to",
            servers
                .iter()
                .map(|server| (labels(&server.url), u64::from(server.in_use))),
        )?;
        self.counters(
            "flowsluice_store_server_failures",
            "Inserts and probes that failed at the ClickHouse server",
            servers
                .iter()
                .map(|server| (labels(&server.url), server.failures)),
        )?;
        self.counter(
            "flowsluice_store_failovers",
            "Times that another ClickHouse server was taken because one failed",
            *failovers,
        )?;
        self.counter(
            "flowsluice_store_blocks_moved_unanswered",
            "Blocks that one server got without answering and another one acknowledged",
            *blocks_moved_unanswered,
        )?;
        self.counter(
            "flowsluice_store_rows_moved_unanswered",
            "Rows of those: on servers that share nothing, at most so many are stored twice",
            *rows_moved_unanswered,
        )
    }
}
