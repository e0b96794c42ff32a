//! The subset of Mustache that Universe templates use, as mustache.java renders it for Cosmos.
//!
//! Variables (`{{a.b}}`, `{{{a.b}}}`, `{{& a.b}}`), sections, inverted sections and comments. Strings are JSON-escaped and
//! never HTML-escaped. False are `null`, `false`, `""` and `[]`, and a name that is not there; **0 is true**.
//! Any other tag is an error. White space around tags is left as it is: JSON does not mind.

use serde_json::{Number, Value};
use thiserror::Error;

/// Why a template does not parse or render. Lines count from 1.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// `{{` without its `}}`.
    #[error("line {line}: the tag that starts here is not closed")]
    UnclosedTag {
        /// Where the tag starts.
        line: usize,
    },
    /// A tag that this subset does not have: a partial, a set-delimiter tag, or an empty one.
    #[error(
        "line {line}: the tag {{{{{tag}}}}} is not known; known are names, {{{{{{name}}}}}}, and tags with & # ^ / !"
    )]
    UnknownTag {
        /// Where the tag starts.
        line: usize,
        /// What is between the braces.
        tag: String,
    },
    /// A section that the template's end finds open.
    #[error("line {line}: the section {name} is not closed")]
    UnclosedSection {
        /// Where the section starts.
        line: usize,
        /// The section's name.
        name: String,
    },
    /// A closing tag of another section than the one that is open.
    #[error("line {line}: {{{{/{name}}}}} closes {}", .open.as_deref().map_or("no section".to_owned(), |open| format!("the section {open}")))]
    WrongEnd {
        /// Where the closing tag is.
        line: usize,
        /// What the tag names.
        name: String,
        /// The innermost open section.
        open: Option<String>,
    },
    /// A variable that stands for an object or an array: what mustache.java writes then is not JSON.
    #[error("line {line}: {name} is an object or an array, and cannot be inserted")]
    NotScalar {
        /// Where the tag is.
        line: usize,
        /// The variable's name.
        name: String,
    },
}

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

/// One place where a template refers to a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference<'t> {
    /// The dotted name.
    pub name: &'t str,
    /// The line, from 1.
    pub line: usize,
    /// Whether it is a section's condition instead of a variable.
    pub section: bool,
}

#[derive(Debug)]
enum Node {
    Text(String),
    Variable { name: String, line: usize },
    Section { name: String, line: usize, inverted: bool, nodes: Vec<Node> },
}

/// A section whose end is not seen yet.
struct Open {
    name: String,
    line: usize,
    inverted: bool,
    /// What came before it, in the section or template around it.
    before: Vec<Node>,
}

impl Template {
    /// Parses a template.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let mut nodes = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        let mut rest = source;
        while let Some(start) = rest.find("{{") {
            let (text, tag) = rest.split_at(start);
            nodes.push(Node::Text(text.to_owned()));
            let line = 1 + source[..source.len() - tag.len()].matches('\n').count();

            let (opening, closing) = if tag.starts_with("{{{") { ("{{{", "}}}") } else { ("{{", "}}") };
            let body = &tag[opening.len()..];
            let end = body.find(closing).ok_or(TemplateError::UnclosedTag { line })?;
            rest = &body[end + closing.len()..];
            let body = body[..end].trim();

            let (sigil, name) = match body.chars().next() {
                Some(sigil @ ('#' | '^' | '/' | '!' | '&')) if closing == "}}" => (sigil, body[1..].trim()),
                _ => ('&', body),
            };
            if sigil != '!' && !is_name(name) {
                return Err(TemplateError::UnknownTag { line, tag: body.to_owned() });
            }
            let name = name.to_owned();
            match sigil {
                '!' => {}
                '#' | '^' => {
                    let before = std::mem::take(&mut nodes);
                    open.push(Open { name, line, inverted: sigil == '^', before });
                }
                '/' => match open.pop() {
                    Some(Open { name: opened, line, inverted, before }) if opened == name => {
                        let section = Node::Section { name, line, inverted, nodes };
                        nodes = before;
                        nodes.push(section);
                    }
                    other => {
                        let open = other.map(|section| section.name);
                        return Err(TemplateError::WrongEnd { line, name, open });
                    }
                },
                _ => nodes.push(Node::Variable { name, line }),
            }
        }
        nodes.push(Node::Text(rest.to_owned()));
        match open.pop() {
            Some(Open { name, line, .. }) => Err(TemplateError::UnclosedSection { line, name }),
            None => Ok(Self { nodes }),
        }
    }

    /// Renders the template with `context`, an object.
    pub fn render(&self, context: &Value) -> Result<String, TemplateError> {
        let mut output = String::new();
        render(&self.nodes, &mut vec![context], &mut output)?;
        Ok(output)
    }

    /// All that the template refers to, in its order.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let mut references = Vec::new();
        collect(&self.nodes, &mut references);
        references
    }
}

/// Dotted words without white space, or `.` for the innermost value itself.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name == "." || name.split('.').all(is_word)
}

fn collect<'t>(nodes: &'t [Node], references: &mut Vec<Reference<'t>>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Variable { name, line } => {
                references.push(Reference { name, line: *line, section: false });
            }
            Node::Section { name, line, nodes, .. } => {
                references.push(Reference { name, line: *line, section: true });
                collect(nodes, references);
            }
        }
    }
}

fn render(nodes: &[Node], scopes: &mut Vec<&Value>, output: &mut String) -> Result<(), TemplateError> {
    for node in nodes {
        match node {
            Node::Text(text) => output.push_str(text),
            Node::Variable { name, line } => match lookup(name, scopes) {
                None | Some(Value::Null) => {}
                Some(Value::Bool(value)) => output.push_str(if *value { "true" } else { "false" }),
                Some(Value::Number(number)) => output.push_str(&number_as_java(number)),
                Some(Value::String(text)) => output.push_str(&escaped(text)),
                Some(Value::Array(_) | Value::Object(_)) => {
                    return Err(TemplateError::NotScalar { line: *line, name: name.clone() });
                }
            },
            Node::Section { name, inverted, nodes, .. } => {
                let value = lookup(name, scopes).filter(|value| is_true(value));
                match (value, inverted) {
                    (None, true) => render(nodes, scopes, output)?,
                    (Some(Value::Array(items)), false) => {
                        for item in items {
                            render_within(item, nodes, scopes, output)?;
                        }
                    }
                    (Some(value), false) => render_within(value, nodes, scopes, output)?,
                    (None, false) | (Some(_), true) => {}
                }
            }
        }
    }
    Ok(())
}

fn render_within<'v>(
    scope: &'v Value,
    nodes: &[Node],
    scopes: &mut Vec<&'v Value>,
    output: &mut String,
) -> Result<(), TemplateError> {
    scopes.push(scope);
    let result = render(nodes, scopes, output);
    scopes.pop();
    result
}

/// The innermost scope that has the name's first word decides; the other words are looked for in what it has there.
fn lookup<'v>(name: &str, scopes: &[&'v Value]) -> Option<&'v Value> {
    if name == "." {
        return scopes.last().copied();
    }
    let mut words = name.split('.');
    let first = words.next()?;
    let value = scopes.iter().rev().find_map(|scope| scope.get(first))?;
    words.try_fold(value, |value, word| value.get(word))
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Number(_) | Value::Object(_) => true,
    }
}

/// The string as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Cosmos gives mustache.java an Integer where the number is one of 32 bits, else a Double, which Java writes in its own way.
fn number_as_java(number: &Number) -> String {
    let integer = number.as_i64().and_then(|integer| i32::try_from(integer).ok());
    if let Some(integer) = integer {
        return integer.to_string();
    }
    let Some(double) = number.as_f64() else { return number.to_string() };
    let size = double.abs();
    if double.fract() == 0.0 && size <= f64::from(i32::MAX) {
        format!("{double:.0}")
    } else if (1e-3..1e7).contains(&size) {
        format!("{double:?}")
    } else {
        let scientific = format!("{double:E}");
        match scientific.split_once('E') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
            _ => scientific,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str, context: &Value) -> String {
        Template::parse(template).unwrap().render(context).unwrap()
    }

    #[test]
    fn variables_are_dotted_names_with_or_without_spaces() {
        let context = json!({"service": {"name": "calico", "user-name": "root"}, "top": "x"});
        assert_eq!(
            rendered(
                "{{service.name}} {{ service.name }} {{{service.user-name}}} {{& top}}{{&top}}",
                &context
            ),
            "calico calico root xx"
        );
    }

    #[test]
    fn a_missing_or_null_variable_is_nothing() {
        let context = json!({"a": {"null": null}, "text": "x"});
        assert_eq!(rendered("[{{none}}{{a.none}}{{a.none.b}}{{a.null}}{{text.b}}]", &context), "[]");
    }

    #[test]
    fn strings_are_json_escaped_and_not_html_escaped() {
        let value = "a \"quoted\" \\ back\nline\ttab \u{1} <b> & 'c' \u{fc}";
        let output = rendered(r#"{"key": "{{value}}"}"#, &json!({ "value": value }));
        assert!(output.contains("<b> & 'c'"), "{output}");
        let parsed: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(parsed["key"], value);
    }

    #[test]
    fn a_value_that_looks_like_a_tag_is_not_one() {
        assert_eq!(rendered("{{a}}", &json!({"a": "{{b}}", "b": "no"})), "{{b}}");
    }

    #[test]
    fn false_are_null_false_the_empty_string_the_empty_list_and_what_is_not_there() {
        for value in [json!(null), json!(false), json!(""), json!([])] {
            assert_eq!(rendered("{{#v}}yes{{/v}}{{^v}}no{{/v}}", &json!({ "v": value })), "no", "{value}");
        }
        assert_eq!(rendered("{{#v.w}}yes{{/v.w}}{{^v.w}}no{{/v.w}}", &json!({})), "no");
    }

    #[test]
    fn zero_is_true_and_so_are_the_word_false_and_the_empty_object() {
        for value in [json!(0), json!(0.0), json!("false"), json!("0"), json!({}), json!(true), json!(1)] {
            assert_eq!(rendered("{{#v}}yes{{/v}}{{^v}}no{{/v}}", &json!({ "v": value })), "yes", "{value}");
        }
    }

    #[test]
    fn a_section_sees_its_value_first_and_the_outer_values_next() {
        let context = json!({"a": {"name": "inner"}, "name": "outer", "other": "outer"});
        assert_eq!(rendered("{{#a}}{{name}} {{other}}{{/a}} {{name}}", &context), "inner outer outer");
        // The first word decides: no way back to the outer a.b.
        let context = json!({"s": {"a": {}}, "a": {"b": "outer"}});
        assert_eq!(rendered("{{#s}}[{{a.b}}]{{/s}}", &context), "[]");
        // In a section of a string, names are still those of the outer object.
        assert_eq!(rendered("{{#n.m}}{{n.m}}{{.}}{{/n.m}}", &json!({"n": {"m": "x"}})), "xx");
    }

    #[test]
    fn a_list_repeats_its_section() {
        let context = json!({"l": [{"n": 1}, {"n": 2}], "s": ["a", "b"]});
        assert_eq!(rendered("{{#l}}<{{n}}>{{/l}}{{#s}}({{.}}){{/s}}", &context), "<1><2>(a)(b)");
    }

    #[test]
    fn sections_nest_and_comments_leave_nothing() {
        let context = json!({"a": true, "b": false});
        let template = "{{#a}}1{{^b}}2{{! over\nlines # / }}3{{/b}}{{#b}}4{{/b}}5{{/a}}";
        assert_eq!(rendered(template, &context), "1235");
    }

    #[test]
    fn numbers_are_written_as_java_writes_them() {
        for (number, written) in [
            (json!(26), "26"),
            (json!(-7), "-7"),
            (json!(0.1), "0.1"),
            (json!(512.0), "512"),
            (json!(2_147_483_647), "2147483647"),
            (json!(3_000_000_000_u64), "3.0E9"),
            (json!(12_345_678.5), "1.23456785E7"),
            (json!(0.0001), "1.0E-4"),
        ] {
            assert_eq!(rendered("{{n}}", &json!({ "n": number })), written);
        }
        assert_eq!(rendered("{{t}} {{f}}", &json!({"t": true, "f": false})), "true false");
    }

    #[test]
    fn what_is_not_mustache_says_where_and_what() {
        let error = |template: &str| Template::parse(template).unwrap_err().to_string();
        assert_eq!(error("a\n{{b"), "line 2: the tag that starts here is not closed");
        assert_eq!(error("{{{b}}"), "line 1: the tag that starts here is not closed");
        assert_eq!(error("\n\n{{#a.b}}x"), "line 3: the section a.b is not closed");
        assert_eq!(error("{{#a}}{{#b}}{{/a}}{{/b}}"), "line 1: {{/a}} closes the section b");
        assert_eq!(error("{{/a}}"), "line 1: {{/a}} closes no section");
        for tag in ["> partial", "=<% %>=", "", "a b", "a..b", "#", "$block", "<parent"] {
            let message = error(&format!("x {{{{{tag}}}}}"));
            assert!(message.starts_with(&format!("line 1: the tag {{{{{tag}}}}} is not known")), "{message}");
        }
    }

    #[test]
    fn an_object_or_a_list_cannot_be_inserted() {
        for value in [json!({"b": 1}), json!([1])] {
            let error = Template::parse("\n{{a}}").unwrap().render(&json!({ "a": value })).unwrap_err();
            assert_eq!(error, TemplateError::NotScalar { line: 2, name: "a".to_owned() });
        }
    }

    #[test]
    fn references_are_listed_with_their_lines() {
        let template = Template::parse("{{a}}\n{{#b.c}}{{^d}}{{/d}}{{/b.c}}").unwrap();
        let listed: Vec<_> = template.references().iter().map(|r| (r.name, r.line, r.section)).collect();
        assert_eq!(listed, [("a", 1, false), ("b.c", 2, true), ("d", 2, true)]);
    }
}
