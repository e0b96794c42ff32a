use proptest::prelude::*;

use super::*;

const OURS: Library<'static> =
    Library { file: "/opt/mesosphere/lib/libmesos_network_isolator.so", command: "/calico/calico_mesos" };

/// As DC/OS 1.7 has it.
const DCOS: &str = r#"{
  "libraries": [
    {
      "file": "/opt/mesosphere/lib/liblogrotate_container_logger.so",
      "modules": [
        {
          "name": "org_apache_mesos_LogrotateContainerLogger",
          "parameters": [
            {"key": "launcher_dir", "value": "/opt/mesosphere/active/mesos/libexec/mesos"}
          ]
        }
      ]
    }
  ]
}
"#;

fn parse(text: &str) -> ModulesJson {
    ModulesJson::parse(Some(text.as_bytes())).unwrap()
}

#[test]
fn a_library_is_appended_to_those_of_dcos() {
    let entry = r#",
    {
      "file": "/opt/mesosphere/lib/libmesos_network_isolator.so",
      "modules": [
        {
          "name": "com_mesosphere_mesos_NetworkIsolator",
          "parameters": [
            {
              "key": "isolator_command",
              "value": "/calico/calico_mesos"
            },
            {
              "key": "ipam_command",
              "value": "/calico/calico_mesos"
            }
          ]
        },
        {
          "name": "com_mesosphere_mesos_NetworkHook"
        }
      ]
    }
  ]
}
"#;
    let expected = format!("{}{entry}", DCOS.strip_suffix("\n  ]\n}\n").unwrap());
    assert_eq!(parse(DCOS).with(OURS).unwrap().text(), expected);
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let made = ModulesJson::parse(None).unwrap().with(OURS).unwrap();
    assert!(
        made.text().starts_with("{\n    \"libraries\": [\n        {\n            \"file\""),
        "{}",
        made.text()
    );
    assert!(made.text().ends_with("        }\n    ]\n}\n"), "{}", made.text());
}

#[test]
fn what_mesos_would_not_take_is_refused_with_its_place() {
    for (content, words) in [
        (&b""[..], "line 1 column 0"),
        (b"{\n  \"libraries\": [\n}", "line 3 column 1"),
        (b"[]", "an array, not an object, at line 1, column 1"),
        (b"{\"libraries\":[],\n\"libraries\":[]}", "a second time, and Mesos would take the last at line 2"),
        (b"{\n \"libraries\": {}}", "must be an array of objects, at line 2, column 15"),
        (b"{\"libraries\": [1]}", "must be an array of objects, at line 1, column 15"),
        (b"{\"libraries\":\"\xff\"}", "UTF-8 at line 1, column 15"),
    ] {
        let error = ModulesJson::parse(Some(content)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_module_of_another_library_is_named() {
    for (module, key) in [(ISOLATOR, "file"), (HOOK, "name")] {
        let theirs = json!({ "libraries": [{ key: "theirs", "modules": [{ "name": module }] }] }).to_string();
        let error = parse(&theirs).with(OURS).unwrap_err();
        assert_eq!(error, ModulesError::Rival { module, library: "theirs".to_owned() });
    }
    // Twice the same library is as bad.
    let twice = json!({ "libraries": [OURS.entry(), OURS.entry()] }).to_string();
    assert!(parse(&twice).with(OURS).is_err());
}

#[test]
fn an_entry_of_the_same_library_is_made_ours_and_comes_back() {
    let theirs = "{\"libraries\": [{\"file\": \"/opt/mesosphere/lib/libmesos_network_isolator.so\"}, {\"name\": \"x\"}]}";
    let before = parse(theirs);
    let with = before.with(OURS).unwrap();
    assert_eq!(with.libraries, [OURS.entry(), json!({ "name": "x" })]);
    assert_eq!(with.with_library_of(&before, OURS.file).unwrap().libraries, before.libraries);
    // Also where someone has taken it out meanwhile.
    let gone = parse("{\"libraries\": [{\"name\": \"x\"}]}");
    assert!(gone.with_library_of(&before, OURS.file).unwrap().position(OURS.file).is_some());
}

/// Libraries that others have, in one of several styles.
fn any_text() -> impl Strategy<Value = String> {
    let library =
        ("[a-z/\"{},]{0,8}", prop::collection::vec("[a-zA-Z_]{1,8}", 0..3)).prop_map(|(file, modules)| {
            let modules: Vec<_> = modules.iter().map(|name| json!({ "name": name })).collect();
            json!({ "file": file, "modules": modules })
        });
    let styles = 0..5_u8;
    (prop::collection::vec(library, 0..4), any::<(bool, bool)>(), styles).prop_map(
        |(libraries, (more, none), style)| {
            let mut object = serde_json::Map::new();
            if more {
                object.insert("comment".to_owned(), json!(["kept", 1.50]));
            }
            if !(none && libraries.is_empty()) {
                object.insert(LIBRARIES.to_owned(), Value::from(libraries));
            }
            let pretty = serde_json::to_string_pretty(&object).unwrap();
            match style {
                0 => Value::from(object).to_string(),
                1 => pretty,
                2 => pretty.replace("\n  ", "\n\t").replace("\": ", "\" :") + "\n",
                3 => pretty.replace('\n', "\r\n"),
                _ => Value::from(object).to_string().replace(',', " , ") + "\n\n",
            }
        },
    )
}

proptest! {
    #[test]
    fn a_merge_appends_ours_keeps_the_others_and_is_idempotent(text in any_text()) {
        let before = parse(&text);
        let after = before.with(OURS).unwrap();
        let (ours, others) = after.libraries.split_last().unwrap();
        prop_assert_eq!(ours, &OURS.entry());
        prop_assert_eq!(others, &before.libraries[..]);
        // All that was there is there, in its order, to the byte.
        let closing = text.rfind(']').filter(|_| !before.libraries.is_empty());
        if let Some(closing) = closing {
            let (kept, rest) = text.split_at(text[..closing].trim_end().len());
            prop_assert!(after.text().starts_with(kept) && after.text().ends_with(rest), "{}", after.text());
        }
        prop_assert_eq!(after.text.get("comment"), before.text.get("comment"));
        prop_assert_eq!(&after.with(OURS).unwrap(), &after);
    }

    #[test]
    fn taking_it_out_again_gives_what_was_there(text in any_text()) {
        let before = parse(&text);
        let back = before.with(OURS).unwrap().with_library_of(&before, OURS.file).unwrap();
        let value = |it: &ModulesJson| serde_json::from_str::<Value>(it.text()).unwrap();
        prop_assert_eq!(value(&back), value(&before));
        if !before.libraries.is_empty() {
            prop_assert_eq!(back.text(), before.text());
        }
    }

    #[test]
    fn no_content_breaks_it(content in prop::collection::vec(any::<u8>(), 0..64), text in "[{}\\[\\]\",:a1 \n]{0,24}") {
        let _ = ModulesJson::parse(Some(&content));
        if let Ok(parsed) = ModulesJson::parse(Some(text.as_bytes())) {
            prop_assert!(parsed.with(OURS).unwrap().position(OURS.file).is_some());
        }
    }
}
