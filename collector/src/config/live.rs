//! What a reload changes of a configuration that others have copies of.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::RetentionOf;

/// The retention that a reload brought, for all copies of the configuration that it is of; absent
/// until there was one. All are equal: it is no part of what a file says.
#[derive(Clone, Debug, Default)]
pub struct LiveRetention(Arc<RwLock<Option<(Duration, RetentionOf)>>>);

impl LiveRetention {
    /// From here on rows are kept so long.
    pub fn set(&self, retention: Duration, retention_of: RetentionOf) {
        let mut live = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *live = Some((retention, retention_of));
    }

    /// What was set last.
    #[must_use]
    pub fn get(&self) -> Option<(Duration, RetentionOf)> {
        let live = self.0.read().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }
}

impl PartialEq for LiveRetention {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}
