//! The package as Cosmos renders it.

use std::collections::BTreeMap;

use calico_universe::{OptionType, Package, RenderError, environment};
use serde_json::{Map, Value, json};

use crate::{HASH, package, uri};

fn env(options: &Value) -> BTreeMap<String, String> {
    environment(&package().render(options).unwrap())
}

/// What the user writes for one option.
fn only(group: &str, name: &str, value: Value) -> Value {
    let option = Map::from_iter([(name.to_owned(), value)]);
    Value::Object(Map::from_iter([(group.to_owned(), Value::Object(option))]))
}

fn refused(options: &Value) -> String {
    match package().render(options) {
        Err(RenderError::Options(faults)) => faults.to_string(),
        other => panic!("{options} was not refused: {other:?}"),
    }
}

#[test]
fn the_app_runs_the_scheduler_from_a_checked_artifact() {
    let app = package().render(&json!({"service": {"name": "team/calico", "cpus": 2, "mem": 1024}})).unwrap();
    assert_eq!(app["id"], "team/calico");
    assert_eq!((&app["cpus"], &app["mem"]), (&json!(2), &json!(1024)));
    assert_eq!((&app["instances"], &app["user"]), (&json!(1), &json!("root")));
    assert_eq!(app["container"], json!({"type": "MESOS"}));
    assert_eq!(app["upgradeStrategy"], json!({"minimumHealthCapacity": 0, "maximumOverCapacity": 0}));
    assert_eq!(app["fetch"][0]["uri"], uri("calico-scheduler"));
    assert_eq!(app["fetch"][0]["destPath"], "calico-scheduler");
    assert_eq!(app["fetch"][0]["executable"], true);
    assert_eq!(app["portDefinitions"][0]["name"], "api");
    assert_eq!(app["healthChecks"][0]["protocol"], "MESOS_HTTP");
    assert_eq!(app["healthChecks"][0]["path"], "/v1/health/live");
    assert_eq!(app["healthChecks"][0]["portIndex"], 0);
}

#[test]
fn the_command_runs_the_artifact_only_if_its_checksum_is_right() {
    let run = |content: &str, hash: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("calico-scheduler");
        std::fs::write(&file, content).unwrap();
        let mut permissions = file.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        std::fs::set_permissions(&file, permissions).unwrap();

        let mut package = package();
        package.resource = package.resource.replace(HASH, hash);
        let app = package.render(&json!({})).unwrap();
        let command = app["cmd"].as_str().unwrap();
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(folder.path())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let script = "#!/bin/sh\necho started\n";
    let (ok, output) = run(script, &hex::encode(<sha2::Sha256 as sha2::Digest>::digest(script)));
    assert!(ok && output.ends_with("started\n"), "{output}");
    let (ok, output) = run(script, HASH);
    assert!(!ok && !output.contains("started") && output.contains("calico-scheduler: FAILED"), "{output}");
}

#[test]
fn labels_are_strings_and_name_the_framework() {
    let app = package().render(&json!({"service": {"name": "prod/calico"}})).unwrap();
    let labels = app["labels"].as_object().unwrap();
    assert!(labels.values().all(Value::is_string), "{labels:?}");
    for (label, value) in [
        ("DCOS_PACKAGE_FRAMEWORK_NAME", "prod/calico"),
        ("DCOS_SERVICE_NAME", "prod/calico"),
        ("DCOS_SERVICE_PORT_INDEX", "0"),
        ("DCOS_SERVICE_SCHEME", "http"),
        ("DCOS_COMMONS_API_VERSION", "v1"),
        ("MARATHON_SINGLE_INSTANCE_APP", "true"),
    ] {
        assert_eq!(labels[label], value, "{label}");
    }
    // With it DC/OS leaves the teardown to the scheduler, which has none: the tasks would outlive it for a week.
    assert!(!labels.contains_key("DCOS_COMMONS_UNINSTALL"));
    assert_eq!(env(&json!({"service": {"name": "prod/calico"}}))["CALICO_SERVICE_NAME"], "prod/calico");
}

#[test]
fn every_option_reaches_the_environment_under_its_name() {
    for option in package().options().unwrap() {
        let (group, name) = (option.group.as_str(), option.name.as_str());
        let schema: Value = serde_json::from_str(&package().config).unwrap();
        let schema = &schema["properties"][group]["properties"][name];
        let value = match (option.value_type, &option.default) {
            _ if option.variable() == "CALICO_SERVICE_STATE" => json!("file:/elsewhere"),
            _ if schema.get("enum").is_some() => schema["enum"].as_array().unwrap().last().unwrap().clone(),
            (OptionType::String, _) if schema["pattern"] == "^(/.*)?$" => json!("/other"),
            (OptionType::String, _) if (group, name) == ("docker", "socket") => json!("/other.sock"),
            (OptionType::String, _) if name == "unit" => json!("other.service"),
            (OptionType::String, _) if name == "cluster-store" => json!("zk://10.0.0.7:2181"),
            (OptionType::String, _) if name == "mtu" => json!("1400"),
            (OptionType::String, _) if group == "recovery" || name.starts_with("max-concurrent-") => {
                json!("7%")
            }
            (OptionType::String, _) if name == "max-per-domain" => json!("7"),
            (OptionType::String, _) => json!("other"),
            (OptionType::Boolean, default) => json!(!default.as_bool().unwrap()),
            (OptionType::Integer, default) => json!(default.as_i64().unwrap() + 1),
            (OptionType::Number, _) => json!(0.75),
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let app = package().render(&only(group, name, value)).unwrap();
        match option.to_string().as_str() {
            // Marathon's business, not the scheduler's.
            "service.cpus" | "service.mem" => assert_eq!(app[name].to_string(), text),
            _ => assert_eq!(environment(&app).get(&option.variable()), Some(&text), "{option}"),
        }
    }
}

#[test]
fn an_empty_option_is_not_in_the_environment_and_a_false_one_is() {
    let env = env(&json!({"cni": {"enable": false}, "mesos": {"inventory-interval": "5s"}}));
    for option in package().options().unwrap() {
        let is_passed = env.contains_key(&option.variable());
        match option.to_string().as_str() {
            "service.cpus" | "service.mem" => assert!(!is_passed, "{option}"),
            "node.image" | "libnetwork.image" => assert!(is_passed, "the package's image is its default"),
            _ => assert_eq!(is_passed, option.default != "", "{option}"),
        }
    }
    assert_eq!(env["CALICO_CNI_ENABLE"], "false");
    assert_eq!(env["CALICO_MESOS_INVENTORY_INTERVAL"], "5s");
    assert!(env.values().all(|value| !value.is_empty()), "{env:?}");
    assert!(env.keys().all(|name| name.starts_with("CALICO_")), "{env:?}");
}

#[test]
fn artifacts_and_image_come_from_resource_json() {
    let env = env(&json!({}));
    for (variable, name) in [
        ("CALICO_ARTIFACTS_INSTALLER", "calico-installer"),
        ("CALICO_ARTIFACTS_ETCD", "etcd"),
        ("CALICO_ARTIFACTS_CNI", "calico"),
        ("CALICO_ARTIFACTS_CNI_IPAM", "calico-ipam"),
        ("CALICO_ARTIFACTS_CALICOCTL", "calicoctl"),
    ] {
        assert_eq!(env[variable], uri(name), "{variable}");
    }
    assert_eq!(env["CALICO_NODE_IMAGE"], "registry:5000/calico/node:v3.14.0");
    assert_eq!(env["CALICO_LIBNETWORK_IMAGE"], "registry:5000/calico/libnetwork-plugin:v1.1.3");
}

#[test]
fn values_with_quotes_newlines_and_tags_arrive_unchanged() {
    for value in ["a\"b", "a\\b", "line\nline\ttab", "{{service.name}}", "<&'>", "\u{7f}\u{1}", "caf\u{e9}"] {
        assert_eq!(env(&only("agents", "exclude", json!(value)))["CALICO_AGENTS_EXCLUDE"], value);
    }
}

#[test]
fn unknown_options_are_refused_with_their_names() {
    let message = refused(&json!({
        "network": {"mtuu": 1400, "cidr": "10.0.0.0/8"},
        "netwrok": {"mtu": 1400},
        "resource": {"assets": {}}
    }));
    for part in [
        "network.mtuu: there is no such option; network has name, pool-cidr",
        "network.cidr: ",
        "netwrok: ",
        "resource: ",
    ] {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
    assert_eq!(message.lines().count(), 4, "{message}");
}

#[test]
fn wrong_values_are_refused_all_at_once_with_their_names() {
    let message = refused(&json!({
        "network": {"mtu": "0", "block-size": "26", "encapsulation": "gre"},
        "etcd": "http://10.0.0.1:2379",
        "service": {"name": "/calico", "cpus": 0},
        "node": {"enable": "yes"}
    }));
    for part in [
        "network.mtu: ",
        "network.block-size: ",
        "network.encapsulation: ",
        "etcd: ",
        "service.name: ",
        "service.cpus: ",
        "node.enable: ",
    ] {
        assert!(message.lines().any(|line| line.starts_with(part)), "{part:?} is not in:\n{message}");
    }
    for options in [json!([]), json!("x"), json!(null)] {
        assert!(refused(&options).starts_with("options: "));
    }
}

#[test]
fn a_label_that_is_no_string_is_an_error() {
    for (labels, named) in [("{\"a\": \"b\", \"count\": 0}", "count"), ("[]", "labels")] {
        let template = format!("{{\"labels\": {labels}}}");
        match (Package { template, ..package() }).render(&json!({})) {
            Err(RenderError::Label { name, .. }) => assert_eq!(name, named),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_does_not_render_to_an_object_is_an_error() {
    let render = |template: &str| Package { template: template.to_owned(), ..package() }.render(&json!({}));
    assert!(matches!(render("{\"id\": }"), Err(RenderError::NotJson { .. })));
    assert!(matches!(render("[\"id\"]"), Err(RenderError::NotAnObject(_))));
    let open = render("{\n{{#a}}").unwrap_err();
    assert_eq!(open.to_string(), "marathon.json.mustache: line 2: the section a is not closed");
}
