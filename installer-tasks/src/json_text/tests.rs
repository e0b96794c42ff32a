use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str) -> ObjectText {
    ObjectText::parse(Some(text.as_bytes()), "Mesos").unwrap()
}

#[test]
fn an_element_is_written_as_those_before_it_are() {
    let element = json!({ "a": [1] });
    for (before, after) in [
        (r#"{"l":[]}"#, r#"{"l":[{"a":[1]}]}"#),
        (r#"{"x":1}"#, r#"{"x":1,"l":[{"a":[1]}]}"#),
        (r#"{"l":[{"b":2}],"x":1}"#, r#"{"l":[{"b":2},{"a":[1]}],"x":1}"#),
        ("{\n  \"l\": []\n}\n", "{\n  \"l\": [\n    {\n      \"a\": [\n        1\n      ]\n    }\n  ]\n}\n"),
        (
            "{\n\t\"l\": [\n\t\t2\n\t]\n}",
            "{\n\t\"l\": [\n\t\t2,\n\t\t{\n\t\t\t\"a\": [\n\t\t\t\t1\n\t\t\t]\n\t\t}\n\t]\n}",
        ),
        (
            "{\n    \"l\":\n    [\n        {},\n        {}\n    ]}",
            "{\n    \"l\":\n    [\n        {},\n        {},\n        {\n            \"a\": [\n                1\n            ]\n        }\n    ]}",
        ),
    ] {
        let with = parse(before).with_element("l", &element);
        assert_eq!(with.text(), after);
        let last = with.elements("l").unwrap().len() - 1;
        let without = with.without_element("l", last);
        assert_eq!(without.get("l").unwrap_or(json!([])), parse(before).get("l").unwrap_or(json!([])));
    }
    // What is no array is not made one.
    assert_eq!(parse(r#"{"l":{}}"#).with_element("l", &element).text(), r#"{"l":{}}"#);
}

#[test]
fn an_element_is_replaced_in_its_place() {
    let text = parse("{\n  \"l\": [\n    1,\n    2,\n    3\n  ]\n}");
    assert_eq!(
        text.with_element_at("l", 1, &json!([])).text(),
        "{\n  \"l\": [\n    1,\n    [],\n    3\n  ]\n}"
    );
    assert_eq!(text.without_element("l", 0).text(), "{\n  \"l\": [\n    2,\n    3\n  ]\n}");
    assert_eq!(text.without_element("l", 2).text(), "{\n  \"l\": [\n    1,\n    2\n  ]\n}");
    assert_eq!(text.without_element("l", 7), text);
}

#[test]
fn a_place_is_a_line_and_a_column() {
    assert_eq!(parse("{\"a\":1,\n \"l\": 2}").position("l"), Some((2, 7)));
    assert_eq!(parse("{}").position("l"), None);
}

proptest! {
    /// Whatever else is in the array, and however it is written: it stays, to the byte.
    #[test]
    fn other_elements_keep_their_bytes(
        elements in prop::collection::vec("[a-z\\[\\]{},\" ]{0,6}", 0..5),
        blanks in prop::sample::select(vec!["", " ", "\n", "\n\t", "\r\n  "]),
        at in 0..5_usize,
    ) {
        let written: Vec<String> = elements.iter().map(|it| json!([it, { "k": it }]).to_string()).collect();
        let array = format!("[{blanks}{}{blanks}]", written.join(&format!("{blanks},{blanks}")));
        let before = parse(&format!("{{{blanks}\"x\":1,{blanks}\"l\"{blanks}:{array},\"y\":[]{blanks}}}"));
        let texts = |it: &ObjectText| {
            it.elements("l").unwrap().into_iter().map(|range| it.text()[range].to_owned()).collect::<Vec<_>>()
        };
        prop_assert_eq!(&texts(&before), &written);
        let with = before.with_element("l", &json!({ "new": 1 }));
        prop_assert_eq!(&texts(&with)[..written.len()], &written[..]);
        prop_assert_eq!(&with.get("l").unwrap()[written.len()], &json!({ "new": 1 }));
        let back = with.without_element("l", written.len());
        prop_assert_eq!(texts(&back), texts(&before));
        if !written.is_empty() {
            prop_assert_eq!(back.text(), before.text());
            let at = at % written.len();
            let mut others = written.clone();
            others.remove(at);
            prop_assert_eq!(texts(&before.without_element("l", at)), others);
            let replaced = before.with_element_at("l", at, &json!(7));
            prop_assert_eq!(&texts(&replaced)[..at], &written[..at]);
            prop_assert_eq!(&texts(&replaced)[at + 1..], &written[at + 1..]);
        }
    }
}
