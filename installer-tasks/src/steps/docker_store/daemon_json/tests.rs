use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(text: &str) -> DaemonJson {
    DaemonJson::parse(Some(text.as_bytes())).unwrap()
}

fn wanted() -> Wanted {
    let (store, advertise) = ("etcd://10.0.0.1:2379".parse().unwrap(), "10.0.0.11:2376".parse().unwrap());
    Wanted::new(store, advertise, &[], 500).unwrap()
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let made = DaemonJson::parse(None).unwrap().with_store(&wanted());
    let expected = r#"{
    "cluster-store": "etcd://10.0.0.1:2379",
    "cluster-advertise": "10.0.0.11:2376",
    "cluster-store-opts": {
        "discovery.heartbeat": "20",
        "discovery.ttl": "60"
    }
}
"#;
    assert_eq!(made.text(), expected);
}

#[test]
fn the_style_of_the_file_is_kept() {
    let opts = r#"{"discovery.heartbeat":"20","discovery.ttl":"60"}"#;
    for (before, after) in [
        (
            r#"{"debug":true}"#,
            format!(r#"{{"debug":true,"cluster-store":"S","cluster-advertise":"A","cluster-store-opts":{opts}}}"#),
        ),
        (
            "{ \"debug\": 1.50 }\n",
            "{ \"debug\": 1.50, \"cluster-store\": \"S\", \"cluster-advertise\": \"A\", \"cluster-store-opts\": { \
             \"discovery.heartbeat\": \"20\", \"discovery.ttl\": \"60\"} }\n"
                .to_owned(),
        ),
        (
            "{\n\t\"a\" : [1,\n2],\n\n\t\"cluster-store\" : \"old\", \"z\" : 1e3}",
            "{\n\t\"a\" : [1,\n2],\n\n\t\"cluster-store\" : \"S\", \"z\" : 1e3,\n\t\"cluster-advertise\" : \"A\",\
             \n\t\"cluster-store-opts\" : {\n\t\t\"discovery.heartbeat\" : \"20\",\n\t\t\"discovery.ttl\" : \"60\"\n\t}}"
                .to_owned(),
        ),
    ] {
        let after = after.replace("\"S\"", "\"etcd://10.0.0.1:2379\"").replace("\"A\"", "\"10.0.0.11:2376\"");
        assert_eq!(parse(before).with_store(&wanted()).text(), after);
    }
}

#[test]
fn options_that_are_not_ours_stay() {
    let merged = parse(r#"{"cluster-store-opts":{"kv.path":"x","discovery.ttl":"5"}}"#).with_store(&wanted());
    assert_eq!(
        merged.get(OPTIONS).unwrap(),
        json!({"kv.path": "x", "discovery.ttl": "60", "discovery.heartbeat": "20"})
    );
}

#[test]
fn what_docker_would_not_take_is_refused_with_its_place() {
    for (content, words) in [
        (&b""[..], "line 1 column 0"),
        (b"{\n  \"a\": 1,\n}", "line 3 column 1"),
        (b"{\"a\":1}\n{}", "line 2 column 1"),
        (b"\n [1]", "an array, not an object, at line 2, column 2"),
        (b"null", "null, not an object, at line 1, column 1"),
        (b"\"x\"", "a string"),
        (b"{\"a\":\"\xff\"}", "UTF-8 at line 1, column 7"),
        (b"{\n\"a\":1,\n\"a\":2}", "\"a\" is there a second time"),
        (b"{\"a\":{\"b\":1,\"b\":1}}", "\"b\" is there a second time"),
    ] {
        let error = DaemonJson::parse(Some(content)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = DaemonJson::parse(Some(b"{\n\"a\":1,\n\"a\":2}")).unwrap_err().to_string();
    assert!(error.contains("line 3 column"), "{error}");
}

#[test]
fn a_store_can_be_taken_out_of_a_file_that_others_changed() {
    let before = parse("{\n  \"debug\": true\n}\n");
    let changed = before.with_store(&wanted()).text().replace("true", "false");
    assert_eq!(parse(&changed).with_store_of(&before).text(), "{\n  \"debug\": false\n}\n");
    // What was there instead of ours comes back.
    let theirs = parse(r#"{"cluster-store":"zk://a:1","x":1}"#);
    assert_eq!(theirs.with_store(&wanted()).with_store_of(&theirs).text(), theirs.text());
    let none = DaemonJson::parse(None).unwrap();
    assert_eq!(none.with_store(&wanted()).with_store_of(&none).text(), "{}\n");
}

/// Any JSON, not too large.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |it| it.is_finite()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,8}", inner), 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// An object with any keys, ours among them at times.
fn any_object() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![4 => ".{0,10}", 1 => prop::sample::select(&OURS[..]).prop_map(ToOwned::to_owned)];
    prop::collection::vec((key, any_json()), 0..8).prop_map(|members| members.into_iter().collect())
}

/// Its text in one of several styles.
fn any_text() -> impl Strategy<Value = String> {
    (any_object(), 0..4_u8, prop::sample::select(vec!["", "\n", " \n\n"])).prop_map(|(object, style, end)| {
        let pretty = serde_json::to_string_pretty(&object).unwrap();
        let text = match style {
            0 => serde_json::to_string(&object).unwrap(),
            1 => pretty,
            2 => pretty.replace("\n  ", "\n\t").replace("\": ", "\" :"),
            _ => pretty.replace('\n', "\r\n"),
        };
        format!("{text}{end}")
    })
}

/// The members that are not ours, in their order, with the very text of their values.
fn others(it: &DaemonJson) -> Vec<(String, String)> {
    let other = it.0.keys().filter(|key| !OURS.contains(key));
    other.map(|key| (key.to_owned(), it.0.value_text(key).unwrap().to_owned())).collect()
}

proptest! {
    #[test]
    fn a_merge_sets_ours_keeps_the_others_and_is_idempotent(text in any_text()) {
        let before = DaemonJson::parse(Some(text.as_bytes()))?;
        let after = before.with_store(&wanted());
        prop_assert_eq!(after.store().unwrap(), "etcd://10.0.0.1:2379");
        prop_assert_eq!(after.advertise().unwrap(), "10.0.0.11:2376");
        for (name, value) in &wanted().options {
            let is = after.options().get(name).cloned();
            prop_assert_eq!(is, Some(Value::from(value.as_str())));
        }
        prop_assert_eq!(others(&before), others(&after));
        let keys = |it: &DaemonJson| it.0.keys().map(ToOwned::to_owned).collect::<Vec<_>>();
        prop_assert!(keys(&after).starts_with(&keys(&before)), "the order is kept");
        prop_assert_eq!(&after.with_store(&wanted()), &after);
        // A final newline stays or stays away.
        prop_assert_eq!(after.text().ends_with('\n'), text.ends_with('\n'));
    }

    #[test]
    fn taking_it_out_again_gives_what_was_there(text in any_text()) {
        let before = DaemonJson::parse(Some(text.as_bytes()))?;
        let back = before.with_store(&wanted()).with_store_of(&before);
        let value = |it: &DaemonJson| serde_json::from_str::<Value>(it.text()).unwrap();
        prop_assert_eq!(value(&back), value(&before));
        prop_assert_eq!(others(&back), others(&before));
    }

    #[test]
    fn no_content_breaks_it(content in prop::collection::vec(any::<u8>(), 0..64), text in "[{}\\[\\]\",:a1 \n]{0,24}") {
        let _ = DaemonJson::parse(Some(&content));
        if let Ok(parsed) = DaemonJson::parse(Some(text.as_bytes())) {
            prop_assert_eq!(parsed.with_store(&wanted()).store().unwrap(), "etcd://10.0.0.1:2379");
        }
    }
}
