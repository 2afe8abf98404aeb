//! Rows in, columns out.
//!
//! In: bursts of flows. Out: sealed batches of columns, encoded as ClickHouse Native blocks.
//! Owner: a worker fills, the store encodes, the empty batch comes back; memory is fixed at start.
