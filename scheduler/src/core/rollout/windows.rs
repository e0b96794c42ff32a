//! Maintenance windows: when disruption may begin.

use super::super::ids::Timestamp;

/// When something may begin: always, when there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows;

/// What is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be like 'Mon-Fri 22:00-04:00 Europe/Berlin'")]
pub struct WindowError;

impl Windows {
    /// Whether something may begin now.
    pub fn is_open(&self, _now: Timestamp) -> bool {
        true
    }

    /// When something may begin again, while it may not now.
    pub fn opens(&self, _now: Timestamp) -> Option<Timestamp> {
        None
    }
}
