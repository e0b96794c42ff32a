//! The text of a JSON object in a file that others own, too, changed as a careful administrator would: the members that are
//! ours, and not a byte besides.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Serialize as _;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

#[cfg(test)]
mod tests;

/// A file that its reader would not take, or not as its author meant it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonTextError {
    /// Not text.
    #[error("it is not UTF-8 at line {line}, column {column}")]
    NotText {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// Not JSON, or a key twice, of which its reader would silently take the last.
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

/// The text of an object that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectText {
    text: String,
    members: Vec<Member>,
    reader: &'static str,
}

impl ObjectText {
    /// Reads it; none at all is an empty object. `reader` is who else reads it, by name: Docker, Mesos.
    pub fn parse(content: Option<&[u8]>, reader: &'static str) -> Result<Self, JsonTextError> {
        let Some(content) = content else { return Self::of_text("{}\n".to_owned(), reader) };
        let text = std::str::from_utf8(content).map_err(|error| {
            let (line, column) = position(content, error.valid_up_to());
            JsonTextError::NotText { line, column }
        })?;
        Self::of_text(text.to_owned(), reader)
    }

    fn of_text(text: String, reader: &'static str) -> Result<Self, JsonTextError> {
        let syntax = |error: serde_json::Error| JsonTextError::Json(format!("it is not valid: {error}"));
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        Strict { reader }.deserialize(&mut deserializer).map_err(syntax)?;
        deserializer.end().map_err(syntax)?;
        let start = text.find(|c: char| !c.is_ascii_whitespace()).unwrap_or(0);
        if !text[start..].starts_with('{') {
            let (line, column) = position(text.as_bytes(), start);
            return Err(JsonTextError::NotAnObject(kind(text.as_bytes()[start]), line, column));
        }
        let members = members(&text).map_err(syntax)?;
        Ok(Self { text, members, reader })
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

    /// With this value for `key`: in its place, or as the last member.
    #[must_use]
    pub fn with(&self, key: &str, value: &Value) -> Self {
        if self.get(key).as_ref() == Some(value) {
            return self.clone();
        }
        self.with_text(key, &self.style().render(value))
    }

    /// With this text as the value of `key`.
    #[must_use]
    pub fn with_text(&self, key: &str, value: &str) -> Self {
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
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
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
        Self::of_text(text, self.reader).unwrap_or_else(|_| self.clone())
    }

    /// The very text of a member's value.
    pub fn value_text(&self, key: &str) -> Option<&str> {
        self.member(key).map(|member| &self.text[member.value.clone()])
    }

    /// Its keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.key.as_str())
    }

    /// Line and column, both from 1, at which a member's value begins.
    pub fn position(&self, key: &str) -> Option<(usize, usize)> {
        self.member(key).map(|member| position(self.text.as_bytes(), member.value.start))
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

/// Arrays among the members.
impl ObjectText {
    /// Where the elements of the array `key` are; `None` when there is no such array.
    fn elements(&self, key: &str) -> Option<Vec<Range<usize>>> {
        let array = self.member(key)?.value.clone();
        if !self.text[array.clone()].starts_with('[') {
            return None;
        }
        let mut elements = Vec::new();
        let mut at = array.start + 1;
        while let Some(start) = next(&self.text, at, |c| c.is_ascii_whitespace() || c == ',') {
            // It was parsed as a whole before: what is no value is the array's end.
            let Ok((IgnoredAny, end)) = read(&self.text, start) else { break };
            elements.push(start..end);
            at = end;
        }
        Some(elements)
    }

    /// With one more element at the end of the array `key`, which is made where it is missing; as it is when `key` is
    /// something else.
    #[must_use]
    pub fn with_element(&self, key: &str, element: &Value) -> Self {
        if self.member(key).is_none() {
            let with_array = self.with_text(key, "[]");
            return if with_array.member(key).is_some() {
                with_array.with_element(key, element)
            } else {
                with_array
            };
        }
        let (Some(member), Some(elements)) = (self.member(key), self.elements(key)) else {
            return self.clone();
        };
        let line = self.indentation(member.key_at);
        let mut text = self.text.clone();
        if let Some(last) = elements.last() {
            let before = self.before_element(member, &elements);
            let rendered = self.render_element(element, before, line);
            text.insert_str(last.end, &format!(",{before}{rendered}"));
        } else if self.style().is_multiline() {
            let before = format!("\n{line}{}", self.unit(line));
            let rendered = self.render_element(element, &before, line);
            text.replace_range(member.value.clone(), &format!("[{before}{rendered}\n{line}]"));
        } else {
            text.replace_range(member.value.clone(), &format!("[{element}]"));
        }
        self.again(text)
    }

    /// With another element in the place of one.
    #[must_use]
    pub fn with_element_at(&self, key: &str, index: usize, element: &Value) -> Self {
        let (Some(member), Some(elements)) = (self.member(key), self.elements(key)) else {
            return self.clone();
        };
        let Some(range) = elements.get(index).cloned() else { return self.clone() };
        let line = self.indentation(member.key_at);
        let rendered = self.render_element(element, self.before_element(member, &elements), line);
        let mut text = self.text.clone();
        text.replace_range(range, &rendered);
        self.again(text)
    }

    /// Without an element.
    #[must_use]
    pub fn without_element(&self, key: &str, index: usize) -> Self {
        let (Some(member), Some(elements)) = (self.member(key), self.elements(key)) else {
            return self.clone();
        };
        let Some(element) = elements.get(index) else { return self.clone() };
        let range = match (index.checked_sub(1).map(|before| &elements[before]), elements.get(index + 1)) {
            // With the comma before it.
            (Some(before), _) => before.end..element.end,
            // With the comma after it.
            (None, Some(after)) => element.start..after.start,
            // The last one leaves an empty array.
            (None, None) => member.value.start + 1..member.value.end - 1,
        };
        let mut text = self.text.clone();
        text.replace_range(range, "");
        self.again(text)
    }

    /// What sets the last element apart from what is before it.
    fn before_element(&self, member: &Member, elements: &[Range<usize>]) -> &str {
        let Some(last) = elements.last() else { return "" };
        let end = elements.len().checked_sub(2).map_or(member.value.start + 1, |before| elements[before].end);
        let between = &self.text[end..last.start];
        &between[between.find(',').map_or(0, |comma| comma + 1)..]
    }

    /// The blanks at the beginning of the line that `at` is in.
    fn indentation(&self, at: usize) -> &str {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[start..].find(|c| c != ' ' && c != '\t').map_or(at, |offset| start + offset);
        &self.text[start..end.min(at)]
    }

    /// By how much a line is set in from one of `outer`.
    fn unit(&self, outer: &str) -> &str {
        let line = self.members.first().map_or("", |first| self.indentation(first.key_at));
        if !line.is_empty() && line == outer { line } else { "  " }
    }

    /// An element after `before`: on lines of its own where that begins one, set in as that is from `outer`.
    fn render_element(&self, element: &Value, before: &str, outer: &str) -> String {
        let Some(newline) = before.rfind('\n') else { return element.to_string() };
        let line = &before[newline + 1..];
        let unit = match line.strip_prefix(outer) {
            Some(unit) if !unit.is_empty() => unit,
            _ => self.unit(outer),
        };
        let mut bytes = Vec::new();
        let mut serializer =
            Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(unit.as_bytes()));
        let written = element.serialize(&mut serializer).ok().and_then(|()| String::from_utf8(bytes).ok());
        // Writing into memory does not fail, and JSON is text.
        written.unwrap_or_else(|| element.to_string()).replace('\n', &format!("\n{line}"))
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
#[derive(Clone, Copy)]
struct Strict {
    reader: &'static str,
}

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
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!(
                    "the key {} is there a second time, and {} would take the last",
                    Value::from(key),
                    self.reader
                )));
            }
            seen.insert(key);
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}
