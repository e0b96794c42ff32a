//! `daemon.json`, changed as a careful administrator would: the members that are ours, and not a byte besides.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::wanted::Wanted;

/// The store.
pub const STORE: &str = "cluster-store";
/// What Docker says of itself in it.
pub const ADVERTISE: &str = "cluster-advertise";
/// Options of both.
pub const OPTIONS: &str = "cluster-store-opts";
/// The members that are ours.
const OURS: [&str; 3] = [STORE, ADVERTISE, OPTIONS];

/// A file that dockerd would not take, or not as its author meant it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DaemonJsonError {
    /// Not text.
    #[error("it is not UTF-8 at line {line}, column {column}")]
    NotText {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// Not JSON, or a key twice, of which dockerd would silently take the last.
    #[error("{0}")]
    Json(String),
    /// JSON, but not an object.
    #[error("it holds {0}, not an object, at line {1}, column {2}")]
    NotAnObject(&'static str, usize, usize),
}

/// A member of the object: where its key begins and where its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    key: String,
    key_at: usize,
    value: Range<usize>,
}

/// The text of a daemon.json that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonJson {
    text: String,
    members: Vec<Member>,
}

impl DaemonJson {
    /// Reads it; none at all is an empty object.
    pub fn parse(content: Option<&[u8]>) -> Result<Self, DaemonJsonError> {
        let Some(content) = content else { return Self::of_text("{}\n".to_owned()) };
        let text = std::str::from_utf8(content).map_err(|error| {
            let (line, column) = position(content, error.valid_up_to());
            DaemonJsonError::NotText { line, column }
        })?;
        Self::of_text(text.to_owned())
    }

    fn of_text(text: String) -> Result<Self, DaemonJsonError> {
        let syntax = |error: serde_json::Error| DaemonJsonError::Json(format!("it is not valid: {error}"));
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        Strict.deserialize(&mut deserializer).map_err(syntax)?;
        deserializer.end().map_err(syntax)?;
        let start = text.find(|c: char| !c.is_ascii_whitespace()).unwrap_or(0);
        if !text[start..].starts_with('{') {
            let (line, column) = position(text.as_bytes(), start);
            return Err(DaemonJsonError::NotAnObject(kind(text.as_bytes()[start]), line, column));
        }
        let members = members(&text).map_err(syntax)?;
        Ok(Self { text, members })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A member's value.
    pub fn get(&self, key: &str) -> Option<Value> {
        // It was parsed as a whole before.
        self.member(key).and_then(|member| serde_json::from_str(&self.text[member.value.clone()]).ok())
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
        let text = |text: String| Value::String(text);
        self.with(STORE, &text(wanted.store.to_string()))
            .with(ADVERTISE, &text(wanted.advertise.to_string()))
            .with(OPTIONS, &Value::Object(options))
    }

    /// With the store of `earlier`, or none when it had none.
    #[must_use]
    pub fn with_store_of(&self, earlier: &Self) -> Self {
        OURS.into_iter().fold(self.clone(), |it, key| match (earlier.member(key), earlier.get(key)) {
            (Some(_), value) if value == it.get(key) => it,
            // As it was written there.
            (Some(member), _) => it.with_text(key, &earlier.text[member.value.clone()]),
            (None, _) => it.without(key),
        })
    }

    /// With this value for `key`: in its place, or as the last member.
    fn with(&self, key: &str, value: &Value) -> Self {
        if self.get(key).as_ref() == Some(value) {
            return self.clone();
        }
        self.with_text(key, &self.style().render(value))
    }

    fn with_text(&self, key: &str, value: &str) -> Self {
        let mut text = self.text.clone();
        if let Some(member) = self.member(key) {
            text.replace_range(member.value.clone(), value);
            return self.again(text);
        }
        let style = self.style();
        let member = format!("{}{}{}{value}", style.before_key, Value::from(key), style.colon);
        if let Some(last) = self.members.last() {
            text.insert_str(last.value.end, &format!(",{member}"));
        } else {
            let open = text.find('{').unwrap_or(0);
            let close = text.rfind('}').unwrap_or(open);
            let after = if style.is_multiline() { "\n" } else { "" };
            text.replace_range(open + 1..close, &format!("{member}{after}"));
        }
        self.again(text)
    }

    /// Without this member.
    fn without(&self, key: &str) -> Self {
        let Some(index) = self.members.iter().position(|member| member.key == key) else {
            return self.clone();
        };
        let member = &self.members[index];
        let range =
            match (index.checked_sub(1).map(|before| &self.members[before]), self.members.get(index + 1)) {
                // With the comma before it.
                (Some(before), _) => before.value.end..member.value.end,
                // With the comma after it.
                (None, Some(after)) => member.key_at..after.key_at,
                // The last one leaves an empty object.
                (None, None) => {
                    let open = self.text.find('{').unwrap_or(0);
                    open + 1..self.text.rfind('}').unwrap_or(open)
                }
            };
        let mut text = self.text.clone();
        text.replace_range(range, "");
        self.again(text)
    }

    /// What an edit gives is as valid as what it was made of; else it is left as it was.
    fn again(&self, text: String) -> Self {
        Self::of_text(text).unwrap_or_else(|_| self.clone())
    }

    fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.key == key)
    }

    /// How the file is written, as its first member shows.
    fn style(&self) -> Style {
        let Some(first) = self.members.first() else {
            return Style { before_key: "\n    ".to_owned(), colon: ": ".to_owned() };
        };
        let open = self.text.find('{').unwrap_or(0);
        let before =
            self.text[..first.value.start].trim_end_matches(|c: char| c == ':' || c.is_ascii_whitespace());
        Style {
            before_key: self.text[open + 1..first.key_at].to_owned(),
            colon: self.text[before.len()..first.value.start].to_owned(),
        }
    }
}

/// How members are set apart.
#[derive(Debug)]
struct Style {
    /// From `{` or `,` to the key.
    before_key: String,
    /// From the key to the value.
    colon: String,
}

impl Style {
    fn is_multiline(&self) -> bool {
        self.before_key.contains('\n')
    }

    /// A member's value: an object on lines of its own where the file's members are.
    fn render(&self, value: &Value) -> String {
        let Value::Object(members) = value else { return value.to_string() };
        if members.is_empty() {
            return "{}".to_owned();
        }
        let (between, after) = if self.is_multiline() {
            let line = self.before_key.rfind('\n').unwrap_or(0);
            let outer = &self.before_key[line..];
            (format!("{outer}{}", &outer[1..]), outer.to_owned())
        } else {
            (self.before_key.clone(), String::new())
        };
        let separator = if self.is_multiline() || !self.before_key.is_empty() {
            between.clone()
        } else if self.colon.ends_with(' ') {
            " ".to_owned()
        } else {
            String::new()
        };
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("{}{}{value}", Value::from(name.as_str()), self.colon))
            .collect();
        format!("{{{between}{}{after}}}", members.join(&format!(",{separator}")))
    }
}

/// Line and column, both from 1, of a byte.
fn position(content: &[u8], at: usize) -> (usize, usize) {
    let before = &content[..at];
    let line = before.split(|&byte| byte == b'\n').count();
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    (line, at - start + 1)
}

fn kind(first: u8) -> &'static str {
    match first {
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    }
}

/// Where the members of the object in `text` are, which is known to be one.
fn members(text: &str) -> serde_json::Result<Vec<Member>> {
    let mut members = Vec::new();
    let mut at = text.find('{').unwrap_or(0) + 1;
    loop {
        let Some(key_at) = next(text, at, |c| c.is_ascii_whitespace() || c == ',') else {
            return Ok(members);
        };
        if !text[key_at..].starts_with('"') {
            return Ok(members);
        }
        let (key, after) = read::<String>(text, key_at)?;
        let start = next(text, after, |c| c.is_ascii_whitespace() || c == ':').unwrap_or(after);
        let (IgnoredAny, end) = read(text, start)?;
        members.push(Member { key, key_at, value: start..end });
        at = end;
    }
}

/// Where the first character from `at` on is that is not to be skipped.
fn next(text: &str, at: usize, skipped: impl Fn(char) -> bool) -> Option<usize> {
    text[at..].find(|c| !skipped(c)).map(|offset| at + offset)
}

/// The value that begins at `at`, and where it ends.
fn read<T: DeserializeOwned>(text: &str, at: usize) -> serde_json::Result<(T, usize)> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter();
    let value = values.next().unwrap_or_else(|| serde_json::from_str(""))?;
    Ok((value, at + values.byte_offset()))
}

/// Reads any JSON, and fails where an object has a key twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!(
                    "the key {} is there a second time, and Docker would take the last",
                    Value::from(key)
                )));
            }
            seen.insert(key);
            map.next_value_seed(Self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
