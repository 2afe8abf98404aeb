//! Configurations made of other collectors' settings.

pub mod elastiflow;
