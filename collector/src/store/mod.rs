//! Blocks in, acknowledged inserts out.
