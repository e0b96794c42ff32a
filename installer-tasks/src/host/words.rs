//! Text that systemd reads: command lines, and environment files.

use std::ops::Range;

/// Splits as systemd splits a command line: at blanks, but not within quotes, which are taken away; a backslash
/// takes the next character as it is. An open quote ends with the text.
pub fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, '\\') => {
                if let Some(c) = characters.next() {
                    word.get_or_insert_default().push(c);
                }
            }
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// An assignment of an environment file, and where its value is written, with the blanks after it.
struct Assignment {
    name: String,
    value: String,
    written: Range<usize>,
}

/// The assignments of an environment file, as systemd reads it: `#` and `;` begin comments, a backslash at a line's
/// end goes on with the next, quotes may enclose parts of a value and line ends in it.
pub fn environment_file(text: &str) -> Vec<(String, String)> {
    assignments(text).into_iter().map(|Assignment { name, value, .. }| (name, value)).collect()
}

fn assignments(text: &str) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| !c.is_ascii_whitespace()) {
        rest = &rest[start..];
        if rest.starts_with(['#', ';']) {
            rest = after_comment(rest);
            continue;
        }
        let end = rest.find(['=', '\n', '\r']).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        if !rest[end..].starts_with('=') {
            // A line without an assignment; systemd passes over it.
            rest = &rest[end..];
            continue;
        }
        let begins = text.len() - rest.len() + end + 1;
        let (value, after) = environment_value(&rest[end + 1..]);
        assignments.push(Assignment {
            name: name.to_owned(),
            value,
            written: begins..text.len() - after.len(),
        });
        rest = after;
    }
    assignments
}

/// The value that a variable has by an environment file: the last one.
pub fn last(text: &str, name: &str) -> Option<String> {
    assignments(text).into_iter().rfind(|it| it.name == name).map(|it| it.value)
}

/// An environment file with one more assignment at its end, in a form that a shell reads as systemd does.
pub fn with_assignment(text: &str, name: &str, value: &str) -> String {
    let escaped = ['\\', '"', '$', '`'].into_iter();
    let value = escaped.fold(value.to_owned(), |value, c| value.replace(c, &format!("\\{c}")));
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{name}=\"{value}\"\n")
}

/// An environment file in which a variable has another value, written in the place of the one that it has by it and in
/// the same form where that goes, else at the end; `None` when the file ends within a line that goes on.
pub fn with_value(text: &str, name: &str, value: &str) -> Option<String> {
    let before = assignments(text);
    let is = before.iter().rposition(|it| it.name == name);
    if is.is_some_and(|is| before[is].value == value) {
        return Some(text.to_owned());
    }
    let in_place = is.and_then(|is| {
        let Assignment { value: old, written, .. } = &before[is];
        let raw = &text[written.clone()];
        let at = written.start + raw.len() - raw.trim_start().len();
        let raw = raw.trim();
        let form = ["", "\"", "'"].into_iter().find(|quote| raw == format!("{quote}{old}{quote}"))?;
        let mut after = text.to_owned();
        after.replace_range(at..at + raw.len(), &format!("{form}{value}{form}"));
        let mut expected = environment_file(text);
        value.clone_into(&mut expected[is].1);
        (environment_file(&after) == expected).then_some(after)
    });
    let after = in_place.unwrap_or_else(|| with_assignment(text, name, value));
    (last(&after, name).as_deref() == Some(value)).then_some(after)
}

/// An environment file without the lines that assign a variable, as far as each is on a line of its own.
pub fn without(text: &str, name: &str) -> String {
    text.split_inclusive('\n').filter(|line| last(line, name).is_none()).collect()
}

/// A comment goes on in the next line after a backslash, as the value does.
fn after_comment(text: &str) -> &str {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            '\n' | '\r' if !escaped => return &text[index..],
            _ => escaped = c == '\\' && !escaped,
        }
    }
    ""
}

/// The value at the beginning of `text`, and what follows its line.
fn environment_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    // Blanks that nothing follows do not belong to it, unless they were quoted or escaped.
    let mut kept = 0;
    let mut quote = None;
    let mut started = false;
    let mut characters = text.char_indices();
    while let Some((index, c)) = characters.next() {
        match (quote, c) {
            (None, '\n' | '\r') => {
                value.truncate(kept);
                return (value, &text[index..]);
            }
            (Some('\''), '\'') | (Some('"'), '"') => {
                quote = None;
                kept = value.len();
                started = false;
            }
            // Quotes mean something at the beginning, and after a quoted part.
            (None, '\'' | '"') if !started => quote = Some(c),
            (None, '\\') => {
                started = true;
                if let Some((_, c)) = characters.next()
                    && c != '\n'
                {
                    value.push(c);
                    kept = value.len();
                }
            }
            (Some('"'), '\\') => match characters.next() {
                Some((_, c)) if "\"\\`$".contains(c) => value.push(c),
                Some((_, '\n')) | None => {}
                Some((_, c)) => value.extend(['\\', c]),
            },
            (None, c) if c.is_ascii_whitespace() => {
                if started {
                    value.push(c);
                }
            }
            (quote, c) => {
                value.push(c);
                if quote.is_none() {
                    started = true;
                    kept = value.len();
                }
            }
        }
    }
    if quote.is_none() {
        value.truncate(kept);
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_split_as_systemd_does() {
        for (text, words) in [
            ("", &[][..]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            (r#"-H "fd://" 'a b'c"#, &["-H", "fd://", "a bc"]),
            (r#"a\ b "c\"d" ''"#, &["a b", "c\"d", ""]),
            ("'open end", &["open end"]),
        ] {
            assert_eq!(split(text), words, "{text}");
        }
    }

    #[test]
    fn environment_files_are_read_as_systemd_does() {
        let text = "\n# a comment \\\n  that goes on=x\n; another\nA=1\n  B = two words  \nC=\"quoted \\\" $x\" # kept\n\
                    D='single \\n'\"and double\"\nE=over \\\ntwo lines\nno assignment\nF=\nG=\"two\nlines\"\nH=it's\r\nA=2";
        let pairs = environment_file(text);
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "quoted \" $x# kept"),
            ("D", "single \\nand double"),
            ("E", "over two lines"),
            ("F", ""),
            ("G", "two\nlines"),
            ("H", "it's"),
            ("A", "2"),
        ];
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_value_is_changed_where_and_as_it_is_written() {
        for (text, after) in [
            ("A=1\nI=x,y\nB=2\n", "A=1\nI=x,y,z\nB=2\n"),
            ("I = x,y  \nB=2", "I = x,y,z  \nB=2"),
            ("I=\"x,y\"\nI=x,y", "I=\"x,y\"\nI=x,y,z"),
            ("I=\"x,y\"\n", "I=\"x,y,z\"\n"),
            ("I='x,y' # kept\nB=2\n", "I='x,y' # kept\nB=2\nI=\"x,y,z\"\n"),
            ("I=x,\\\ny\n", "I=x,\\\ny\nI=\"x,y,z\"\n"),
            ("#I=x,y\n", "#I=x,y\nI=\"x,y,z\"\n"),
            ("A=1", "A=1\nI=\"x,y,z\"\n"),
            ("I=x,y,z", "I=x,y,z"),
        ] {
            assert_eq!(with_value(text, "I", "x,y,z").as_deref(), Some(after), "{text:?}");
        }
        for open in ["A=1 \\", "A=\"1", "# comment \\"] {
            assert_eq!(with_value(open, "I", "x"), None, "{open:?}");
        }
        assert_eq!(without("A=1\nI=x\n#I=x\n I = y\nB=2", "I"), "A=1\n#I=x\nB=2");
    }

    proptest! {
        /// Whatever else is there stays, to the byte, and systemd reads the new value.
        #[test]
        fn other_variables_keep_what_they_are(
            lines in prop::collection::vec("([AI]|NAME) ?= ?[a-z,\"'\\\\ #;/]{0,9}|[#;].{0,9}|", 0..7),
            value in "[a-z,/_]{1,12}",
        ) {
            let text = lines.join("\n");
            let Some(after) = with_value(&text, "I", &value) else { return Ok(()) };
            prop_assert_eq!(last(&after, "I"), Some(value.clone()));
            prop_assert_eq!(with_value(&after, "I", &value), Some(after.clone()), "once is enough");
            let others = |text: &str| {
                environment_file(text).into_iter().filter(|(name, _)| name != "I").collect::<Vec<_>>()
            };
            prop_assert_eq!(others(&after), others(&text));
            if !after.starts_with(&text) {
                // In its place: with the old value again it is as it was.
                let old = last(&text, "I").unwrap();
                prop_assert_eq!(with_value(&after, "I", &old), Some(text));
            }
        }

        #[test]
        fn quoted_words_come_back(words in prop::collection::vec(".*", 0..6)) {
            let quoted = |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
            let text = words.iter().map(quoted).collect::<Vec<_>>().join("  ");
            prop_assert_eq!(split(&text), words);
        }

        #[test]
        fn quoted_values_come_back(pairs in prop::collection::vec(("[A-Z_][A-Z0-9_]{0,8}", "[^\0]*"), 0..6)) {
            let quote = |value: &str| {
                value.chars().fold(String::new(), |mut text, c| {
                    if "\"\\`$".contains(c) {
                        text.push('\\');
                    }
                    text.push(c);
                    text
                })
            };
            let line = |(name, value): &(String, String)| format!("{name}=\"{}\"\n", quote(value));
            let text = pairs.iter().map(line).collect::<Vec<_>>().concat();
            prop_assert_eq!(environment_file(&text), pairs);
        }

        #[test]
        fn no_text_breaks_them(text in "[\\PC\n\r\t\"'\\\\=#;$]*") {
            split(&text);
            environment_file(&text);
        }
    }
}
