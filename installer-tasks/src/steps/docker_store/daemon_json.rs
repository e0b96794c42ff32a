//! `daemon.json`: the members that are ours, in a file that is Docker's administrator's.

use serde_json::{Map, Value};

use super::wanted::Wanted;
use crate::json_text::{JsonTextError, ObjectText};

/// The store.
pub const STORE: &str = "cluster-store";
/// What Docker says of itself in it.
pub const ADVERTISE: &str = "cluster-advertise";
/// Options of both.
pub const OPTIONS: &str = "cluster-store-opts";
/// The members that are ours.
const OURS: [&str; 3] = [STORE, ADVERTISE, OPTIONS];

/// The text of a daemon.json that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonJson(ObjectText);

impl DaemonJson {
    /// Reads it; none at all is an empty object. What dockerd would not take, or not as its author meant it, is refused.
    pub fn parse(content: Option<&[u8]>) -> Result<Self, JsonTextError> {
        ObjectText::parse(content, "Docker").map(Self)
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.text()
    }

    /// A member's value.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key)
    }

    /// The store that it configures; anything but a string counts as its text.
    pub fn store(&self) -> Option<String> {
        self.string(STORE)
    }

    /// The address under which it has Docker be known.
    pub fn advertise(&self) -> Option<String> {
        self.string(ADVERTISE)
    }

    /// The store's options.
    pub fn options(&self) -> Map<String, Value> {
        match self.get(OPTIONS) {
            Some(Value::Object(options)) => options,
            _ => Map::new(),
        }
    }

    fn string(&self, key: &str) -> Option<String> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    /// With the wanted store. Of options that are there, those that we do not set stay.
    #[must_use]
    pub fn with_store(&self, wanted: &Wanted) -> Self {
        let mut options = self.options();
        for (name, value) in &wanted.options {
            options.insert(name.clone(), Value::String(value.clone()));
        }
        let with_store = self.0.with(STORE, &Value::String(wanted.store.to_string()));
        let with_address = with_store.with(ADVERTISE, &Value::String(wanted.advertise.to_string()));
        Self(with_address.with(OPTIONS, &Value::Object(options)))
    }

    /// With the store of `earlier`, or none when it had none.
    #[must_use]
    pub fn with_store_of(&self, earlier: &Self) -> Self {
        let back = |it: ObjectText, key| match (earlier.0.value_text(key), earlier.get(key)) {
            (Some(_), value) if value == it.get(key) => it,
            // As it was written there.
            (Some(text), _) => it.with_text(key, text),
            (None, _) => it.without(key),
        };
        Self(OURS.into_iter().fold(self.0.clone(), back))
    }
}

#[cfg(test)]
mod tests;
