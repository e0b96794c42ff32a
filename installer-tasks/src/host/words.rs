//! Text that systemd reads: command lines, and environment files.

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

/// The assignments of an environment file, as systemd reads it: `#` and `;` begin comments, a backslash at a line's
/// end goes on with the next, quotes may enclose parts of a value and line ends in it.
pub fn environment_file(text: &str) -> Vec<(String, String)> {
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
        let (value, after) = environment_value(&rest[end + 1..]);
        assignments.push((name.to_owned(), value));
        rest = after;
    }
    assignments
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

    proptest! {
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
