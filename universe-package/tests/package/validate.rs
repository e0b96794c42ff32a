//! What `Package::validate` and building find.

use std::{collections::BTreeMap, fs, path::PathBuf};

use calico_universe::{FillError, HashError, Package, PackageFile, Resources};
use serde_json::{Value, json};

/// The faults of the package after a change, one a line.
fn faults(change: impl FnOnce(&mut Package)) -> String {
    let mut package = Package::embedded();
    change(&mut package);
    package.validate().map_or_else(|faults| faults.to_string(), |()| String::new())
}

/// The faults of the package after a change of one of its JSON files.
fn faults_of_json(file: PackageFile, change: impl FnOnce(&mut Value)) -> String {
    faults(|package| {
        let mut value: Value = serde_json::from_str(package.text(file)).unwrap();
        change(&mut value);
        let text = match file {
            PackageFile::Package => &mut package.package,
            PackageFile::Config => &mut package.config,
            PackageFile::Resource => &mut package.resource,
            PackageFile::Template => unreachable!("it is not JSON"),
        };
        *text = value.to_string();
    })
}

fn has_line(faults: &str, beginning: &str) {
    assert!(faults.lines().any(|line| line.starts_with(beginning)), "no fault {beginning:?} in:\n{faults}");
}

/// How a fault in the template's line that holds a text begins.
fn line_of(text: &str) -> String {
    let line = Package::embedded().template.lines().position(|line| line.contains(text)).unwrap() + 1;
    format!("marathon.json.mustache: line {line}:")
}

#[test]
fn the_package_is_valid() {
    assert_eq!(faults(|_| {}), "");
}

#[test]
fn its_version_is_this_crates() {
    let package: Value = serde_json::from_str(&Package::embedded().package).unwrap();
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn faults_of_all_files_are_reported_at_once() {
    let found = faults(|package| {
        package.package = package.package.replace("\"name\": \"calico\"", "\"name\": \"Calico!\"");
        package.config = package.config.replace("\"default\": 26,", "");
        package.resource = package.resource.replace("@etcd@", "etcd");
        package.template = package.template.replace("{{network.name}}", "{{network.nam}}");
    });
    for beginning in [
        "package.json: name: ",
        "config.json: network.block-size: it has no default",
        "resource.json: assets.uris.etcd: ",
        &format!("{} network.nam is not an option of config.json", line_of("{{network.name}}")),
    ] {
        has_line(&found, beginning);
    }
}

#[test]
fn only_ascii_is_allowed_also_behind_an_escape() {
    let found = faults(|package| {
        package.package = package.package.replace("Calico networking", "Calico\u{2122} networking");
        package.config = package.config.replace("The Calico network.", "The Calico\\u2122 network.");
    });
    assert_eq!(found.lines().count(), 2, "{found}");
    has_line(&found, "package.json: line 10: '\u{2122}' is not ASCII");
    has_line(&found, "config.json: line ");
}

#[test]
fn text_that_is_not_json_is_reported_for_each_file() {
    let found = faults(|package| {
        package.package.push('}');
        package.config.insert(0, ',');
        package.resource.clear();
    });
    for file in ["package.json", "config.json", "resource.json"] {
        has_line(&found, &format!("{file}: it is not JSON: "));
    }
}

#[test]
fn package_json_has_the_keys_of_packaging_version_4_0_and_no_others() {
    for required in [
        "packagingVersion",
        "name",
        "version",
        "maintainer",
        "description",
        "tags",
        "upgradesFrom",
        "downgradesTo",
    ] {
        let found = faults_of_json(PackageFile::Package, |package| {
            package.as_object_mut().unwrap().remove(required);
        });
        assert!(found.contains(&format!("\"{required}\" is a required property")), "{found}");
    }
    for (key, value, beginning) in [
        ("packagingVersion", json!("3.0"), "package.json: packagingVersion: "),
        ("version", json!("1.0 beta"), "package.json: version: "),
        ("tags", json!(["two words"]), "package.json: tags.0: "),
        ("framework", json!("true"), "package.json: framework: "),
        ("minDcosReleaseVersion", json!("1.10-beta"), "package.json: minDcosReleaseVersion: "),
        ("releaseNotes", json!("new"), "package.json: not allowed here: releaseNotes"),
    ] {
        has_line(&faults_of_json(PackageFile::Package, |package| package[key] = value), beginning);
    }
}

#[test]
fn config_json_is_draft_4_with_a_description_and_a_default_for_every_option() {
    let change = |pointer: &str, value: Value| {
        faults_of_json(PackageFile::Config, |config| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            if value.is_null() {
                parent.remove(key)
            } else {
                parent.insert(key.to_owned(), value)
            };
        })
    };
    let name = "/properties/network/properties/name";
    for (pointer, value, beginning) in [
        (
            "/$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
            "config.json: $schema: ",
        ),
        (
            "/additionalProperties".to_owned(),
            json!(null),
            "config.json: it must have \"additionalProperties\"",
        ),
        (
            "/properties/network/additionalProperties".to_owned(),
            json!(true),
            "config.json: network: it must have",
        ),
        (
            "/properties/network/description".to_owned(),
            json!(null),
            "config.json: network: it has no description",
        ),
        (format!("{name}/description"), json!(" "), "config.json: network.name: it has no description"),
        (format!("{name}/default"), json!(null), "config.json: network.name: it has no default"),
        (format!("{name}/default"), json!(1), "config.json: network.name: its default is wrong: 1 is not"),
        (format!("{name}/default"), json!(""), "config.json: network.name: its default is wrong: "),
        (format!("{name}/type"), json!("object"), "config.json: network.name: its type must be"),
        (format!("{name}/type"), json!("text"), "config.json: /properties/network/properties/name/type: "),
        // In draft 4 this keyword is a boolean; later drafts have a number.
        (format!("{name}/exclusiveMinimum"), json!(0), "config.json: /properties/network/properties/name"),
        (
            "/properties/network/properties/pool_cidr".to_owned(),
            json!({"type": "string", "default": "", "description": "x"}),
            "config.json: network.pool_cidr: names are",
        ),
        (
            "/properties/resource".to_owned(),
            json!({"type": "object", "description": "x", "additionalProperties": false, "properties": {}}),
            "config.json: resource: Cosmos puts",
        ),
        (
            "/properties/network/properties/unused".to_owned(),
            json!({"type": "string", "default": "", "description": "x"}),
            "marathon.json.mustache: the option network.unused is not used",
        ),
    ] {
        has_line(&change(&pointer, value), beginning);
    }
}

#[test]
fn resource_json_has_checksums_and_nothing_that_ends_a_quoted_word() {
    let hash = "0".repeat(64);
    let with = |uri: &str| {
        faults_of_json(PackageFile::Resource, |resource| resource["assets"]["uris"]["etcd"] = json!(uri))
    };
    assert_eq!(with(&format!("https://host/etcd-v3.tar.gz#sha256={hash}")), "");
    for uri in [
        "https://host/etcd",
        "etcd",
        &format!("https://host/etcd#sha256={}", &hash[1..]),
        &format!("https://host/etcd'; rm -r x'#sha256={hash}"),
        &format!("ftp://host/etcd#sha256={hash}"),
    ] {
        has_line(&with(uri), "resource.json: assets.uris.etcd: ");
    }
    let found = faults_of_json(PackageFile::Resource, |resource| {
        resource["assets"]["container"]["docker"]["calico-node"] = json!("calico/node latest");
        resource["icons"] = json!({});
    });
    has_line(&found, "resource.json: assets.container.docker.calico-node: ");
    has_line(&found, "resource.json: not allowed here: icons");
}

#[test]
fn the_template_renders_and_names_only_what_there_is() {
    let change =
        |from: &str, to: &str| faults(|package| package.template = package.template.replace(from, to));
    let rendering = "marathon.json.mustache: with the defaults, the rendered";
    for (from, to, beginning) in [
        (
            "{{/mesos.master}}",
            "",
            format!("{} the section mesos.master is not closed", line_of("{{/mesos.master}}")),
        ),
        (
            "uris.calicoctl}}",
            "uris.calicoctrl}}",
            format!("{} resource.assets.uris.calicoctrl is not in", line_of("uris.calicoctl}}")),
        ),
        (
            "{{network.block-size}}",
            "{{#network.block-size}}26{{/network.block-size}}",
            format!("{} network.block-size is a number: ", line_of("{{network.block-size}}")),
        ),
        ("\"0\"", "0", format!("{rendering} label DCOS_SERVICE_PORT_INDEX is 0")),
        ("\"instances\": 1,", "\"instances\": ,", format!("{rendering} template is not JSON")),
        (
            "\"{{cni.enable}}\"",
            "{{cni.enable}}",
            "marathon.json.mustache: env.CALICO_CNI_ENABLE: it is true".into(),
        ),
        ("\"id\": \"{{service.name}}\",", "", "marathon.json.mustache: id: ".into()),
    ] {
        has_line(&change(from, to), &beginning);
    }
}

/// A folder with a file for every artifact.
fn artifacts() -> (tempfile::TempDir, BTreeMap<String, PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let files =
        ["calico-scheduler", "calico-installer", "etcd", "calico", "calico-ipam", "calicoctl"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, "test").unwrap();
            (name.to_owned(), path)
        });
    (folder, files.into())
}

#[test]
fn building_hashes_the_files_and_leaves_no_placeholder() {
    let (folder, files) = artifacts();
    let resources = Resources::from_files(
        "http://host:8080/files/",
        &files,
        "calico/node:v3.14.0",
        "calico/libnetwork-plugin:v1.1.3",
    )
    .unwrap();
    let package = Package::embedded().filled(&resources).unwrap();
    assert_eq!(package.placeholders().unwrap(), Vec::<String>::new());
    package.validate().unwrap();
    let resource: Value = serde_json::from_str(&package.resource).unwrap();
    assert_eq!(
        resource["assets"]["uris"]["calico-ipam"],
        "http://host:8080/files/calico-ipam#sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    );
    let images = &resource["assets"]["container"]["docker"];
    assert_eq!(images["calico-node"], "calico/node:v3.14.0");
    assert_eq!(images["libnetwork-plugin"], "calico/libnetwork-plugin:v1.1.3");

    let out = folder.path().join("repo/4");
    package.save(&out).unwrap();
    assert_eq!(Package::load(&out).unwrap(), package);
}

#[test]
fn building_names_what_is_missing_and_what_is_too_much() {
    let (_folder, mut files) = artifacts();
    files.remove("etcd");
    files.remove("calicoctl");
    let wrong = files.remove("calico").unwrap();
    files.insert("calicoo".to_owned(), wrong);
    let resources = Resources::from_files(
        "http://host",
        &files,
        "calico/node:v3.14.0",
        "calico/libnetwork-plugin:v1.1.3",
    )
    .unwrap();
    let error = Package::embedded().filled(&resources).unwrap_err();
    let FillError::Names { missing, unknown, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (missing.join(" "), unknown.join(" ")),
        ("etcd calico calicoctl".to_owned(), "calicoo".to_owned())
    );
    assert!(
        error.to_string().starts_with("resource.json wants etcd, calico, calicoctl, and nothing"),
        "{error}"
    );
}

#[test]
fn files_that_cannot_be_served_are_refused() {
    let (folder, files) = artifacts();
    let with = |name: &str, path: PathBuf| {
        let mut files = files.clone();
        files.insert(name.to_owned(), path);
        Resources::from_files("http://host", &files, "image", "image").unwrap_err()
    };
    assert!(
        matches!(with("etcd", folder.path().join("none")), HashError::Unreadable { name, .. } if name == "etcd")
    );
    assert!(
        matches!(with("etcd", folder.path().join("calico")), HashError::SameUri { name, .. } if name == "etcd")
    );
    assert!(matches!(with("etcd", folder.path().join("a b")), HashError::FileName { .. }));
    for url in [
        "host:8080",
        "ftp://host",
        "http://",
        "http:///x",
        "http://host/?a",
        "http://host/#a",
        "http://h'ost",
    ] {
        assert!(
            matches!(Resources::from_files(url, &files, "image", "image"), Err(HashError::BaseUrl(_))),
            "{url}"
        );
    }
}

#[test]
fn a_missing_file_of_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = Package::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("package.json: No such file"), "{message}");
}
