//! The options that `config.json` declares.

use std::fmt;

use serde_json::{Map, Value};

use crate::{Fault, Package, PackageFile};

/// The JSON type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionType {
    /// Text; a list is comma-separated text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
}

impl OptionType {
    pub(crate) fn of(schema: &Value) -> Option<Self> {
        match schema.get("type")?.as_str()? {
            "string" => Some(Self::String),
            "boolean" => Some(Self::Boolean),
            "integer" => Some(Self::Integer),
            "number" => Some(Self::Number),
            _ => None,
        }
    }

    /// Whether 0 is a value of it, which a template takes for true.
    pub(crate) const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Number)
    }
}

/// One option of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionSchema {
    /// The group's name.
    pub group: String,
    /// The option's name in its group.
    pub name: String,
    /// The type of its value.
    pub value_type: OptionType,
    /// What it is for.
    pub description: String,
    /// Its value when the user gives none.
    pub default: Value,
}

impl OptionSchema {
    /// The variable that the scheduler reads it from: `CALICO_GROUP_OPTION`.
    pub fn variable(&self) -> String {
        format!("CALICO_{}_{}", self.group, self.name).replace('-', "_").to_uppercase()
    }

    /// The default as it stands in the environment: text without quotes.
    pub fn default_text(&self) -> String {
        match &self.default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for OptionSchema {
    /// `group.option`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.group, self.name)
    }
}

impl Package {
    /// The options in their order in `config.json`. What is not as [`Package::validate`] wants it is left out.
    pub fn options(&self) -> Result<Vec<OptionSchema>, Fault> {
        Ok(options_of(&self.json(PackageFile::Config)?))
    }
}

pub(crate) fn options_of(config: &Value) -> Vec<OptionSchema> {
    let read = |group: &str, name: &str, schema: &Value| {
        Some(OptionSchema {
            group: group.to_owned(),
            name: name.to_owned(),
            value_type: OptionType::of(schema)?,
            description: schema.get("description")?.as_str()?.to_owned(),
            default: schema.get("default")?.clone(),
        })
    };
    properties(config)
        .flat_map(|(group, schema)| {
            properties(schema).filter_map(move |(name, schema)| read(group, name, schema))
        })
        .collect()
}

/// The schemas of an object schema's properties.
pub(crate) fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}
