//! The names of all keys.

use std::path::PathBuf;

use crate::core::AgentKey;

/// All keys of one framework.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// Ends with `/`.
    base: String,
}

impl Keys {
    /// Below `prefix`, for the framework `service`.
    pub fn new(prefix: &str, service: &str) -> Self {
        Self { base: format!("{prefix}/{}/", service.replace('/', "__")) }
    }

    /// What all keys begin with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The first key after all of ours.
    pub fn end(&self) -> String {
        // '0' comes after '/'.
        format!("{}0", self.base.trim_end_matches('/'))
    }

    pub fn leader(&self) -> String {
        format!("{}leader", self.base)
    }

    pub fn schema(&self) -> String {
        format!("{}schema", self.base)
    }

    pub fn framework_id(&self) -> String {
        format!("{}framework-id", self.base)
    }

    pub fn cluster(&self) -> String {
        format!("{}cluster", self.base)
    }

    pub fn history(&self, place: u64) -> String {
        format!("{}{place:02}", self.histories())
    }

    /// What the keys of the history begin with.
    pub fn histories(&self) -> String {
        format!("{}history/", self.base)
    }

    pub fn agent(&self, agent: &AgentKey) -> String {
        format!("{}agents/{agent}", self.base)
    }
}

/// A key in an error.
pub(super) fn shown(key: &str) -> PathBuf {
    PathBuf::from(format!("etcd key {key}"))
}
