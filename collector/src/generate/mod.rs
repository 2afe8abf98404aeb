//! The exporter simulator.
