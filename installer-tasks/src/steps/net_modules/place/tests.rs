use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::steps::model::Content;

/// A host with these files.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host::below(root.path());
    (root, host)
}

fn unit(exec: &str, environment: &[&str], environment_files: &[&str]) -> Unit {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    Unit {
        exec_start: vec![words::split(exec)],
        environment: owned(environment),
        environment_files: owned(environment_files),
        ..Unit::default()
    }
}

fn values() -> Values {
    let text = |text: &str| text.to_owned();
    Values {
        modules: text("file:///m"),
        isolation: text("a,I"),
        hooks: text("H"),
        authority: Some(text("e:1")),
    }
}

/// The files that are wanted, below the root, with their text.
fn wanted(place: &Place<'_>, root: &Path) -> Vec<(String, String)> {
    let shown = |file: WantedFile| {
        let Content::Bytes(text) = file.content else { panic!("an artifact") };
        let path =
            file.path.strip_prefix(root.canonicalize().unwrap()).or(file.path.strip_prefix(root)).unwrap();
        (path.display().to_string(), String::from_utf8(text).unwrap())
    };
    place.files(&values()).unwrap().into_iter().map(shown).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

const WRAPPER: &str = "/usr/bin/mesos-init-wrapper slave";
const PLAIN: &str = "/usr/sbin/mesos-slave";

#[test]
fn packages_of_mesos_have_a_file_a_flag_and_etcd_in_the_wrapper_s_variables() {
    let (root, host) = host(&[
        ("etc/mesos-slave/isolation", "a"),
        ("etc/mesos-slave/hooks", "\n"),
        ("etc/default/mesos-slave", "LOGS=/var/log"),
    ]);
    let unit = unit(WRAPPER, &[], &[]);
    let place = Place::of(&host, Platform::Mesos, "mesos-slave.service", &unit).unwrap();
    assert_eq!(place.get(ISOLATION).unwrap().as_deref(), Some("a"));
    assert_eq!(place.get(HOOKS).unwrap().as_deref(), Some(""));
    assert_eq!((place.get(MODULES).unwrap(), place.authority().unwrap()), (None, None));
    let expected = [
        ("etc/default/mesos-slave", "LOGS=/var/log\nETCD_AUTHORITY=\"e:1\"\n"),
        ("etc/mesos-slave/modules", "file:///m\n"),
        ("etc/mesos-slave/isolation", "a,I"),
        ("etc/mesos-slave/hooks", "H\n"),
    ];
    assert_eq!(wanted(&place, root.path()), pairs(&expected));
}

#[test]
fn other_units_of_plain_mesos_take_variables_from_their_file_or_from_a_drop_in() {
    let (root, host) = host(&[("etc/default/mesos-slave", "MESOS_ISOLATION=a\nETCD_AUTHORITY=x:1\n")]);
    let with_file = unit(PLAIN, &[], &["/etc/default/mesos-slave"]);
    let place = Place::of(&host, Platform::Mesos, "mesos-slave.service", &with_file).unwrap();
    assert_eq!(place.get(ISOLATION).unwrap().as_deref(), Some("a"));
    assert_eq!(place.authority().unwrap().as_deref(), Some("x:1"));
    let text = "MESOS_ISOLATION=a,I\nETCD_AUTHORITY=e:1\nMESOS_MODULES=\"file:///m\"\nMESOS_HOOKS=\"H\"\n";
    assert_eq!(wanted(&place, root.path()), pairs(&[("etc/default/mesos-slave", text)]));

    let bare = unit(PLAIN, &["MESOS_ISOLATION=old", "MESOS_ISOLATION=a", "MESOS_ISOLATION_X=b"], &[]);
    let place = Place::of(&host, Platform::Mesos, "u.service", &bare).unwrap();
    assert_eq!(place.get(ISOLATION).unwrap().as_deref(), Some("a"));
    assert_eq!((place.get(HOOKS).unwrap(), place.authority().unwrap()), (None, None));
    let text = "[Service]\nEnvironment=\"MESOS_MODULES=file:///m\"\nEnvironment=\"MESOS_ISOLATION=a,I\"\n\
                Environment=\"MESOS_HOOKS=H\"\nEnvironment=\"ETCD_AUTHORITY=e:1\"\n";
    let path = "etc/systemd/system/u.service.d/calico-dcos.conf";
    assert_eq!(wanted(&place, root.path()), pairs(&[(path, text)]));
}

#[test]
fn dcos_has_variables_in_a_package_that_a_link_leads_to() {
    let package = "opt/mesosphere/packages/dcos-config--setup_1/etc/mesos-slave-common";
    let (root, host) = host(&[(package, "MESOS_HOOKS=x\nMESOS_ISOLATION=a\n")]);
    fs::create_dir_all(root.path().join("opt/mesosphere/etc")).unwrap();
    symlink(root.path().join(package), root.path().join("opt/mesosphere/etc/mesos-slave-common")).unwrap();
    let files =
        ["/opt/mesosphere/environment", "/opt/mesosphere/etc/mesos-slave-common", "/var/lib/dcos/*-common"];
    let unit = unit(PLAIN, &[], &files);
    let of = || Place::of(&host, Platform::DcOs, "dcos-mesos-slave.service", &unit);
    let text = "MESOS_HOOKS=H\nMESOS_ISOLATION=a,I\nMESOS_MODULES=\"file:///m\"\nETCD_AUTHORITY=\"e:1\"\n";
    assert_eq!(wanted(&of().unwrap(), root.path()), pairs(&[(package, text)]));
    // What is read after it counts more, what is read before it does not.
    fs::write(root.path().join("opt/mesosphere/environment"), "MESOS_HOOKS=y\n").unwrap();
    assert!(of().is_ok());
    fs::create_dir_all(root.path().join("var/lib/dcos")).unwrap();
    fs::write(root.path().join("var/lib/dcos/mesos-slave-common"), "MESOS_HOOKS=y\n").unwrap();
    let said = of().unwrap_err().to_string();
    assert!(said.contains("dcos/mesos-slave-common sets MESOS_HOOKS too"), "{said}");
}

#[test]
fn what_counts_more_than_what_is_set_is_named() {
    let (root, host) = host(&[("etc/default/mesos-slave", "A=1\n"), ("opt/mesosphere/etc/x", "")]);
    let said = |platform, unit: &Unit| {
        Place::of(&host, platform, "mesos-slave.service", unit)
            .err()
            .map(|it| it.to_string())
            .unwrap_or_default()
    };
    for (exec, words) in [
        ("/usr/sbin/mesos-slave --isolation=x", "mesos-slave.service has --isolation on its command line"),
        ("/usr/sbin/mesos-slave --modules x", "has --modules on its command line"),
        ("/usr/sbin/mesos-slave --isolation_x=y", ""),
    ] {
        let said = said(Platform::Mesos, &unit(exec, &[], &[]));
        assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{said}");
    }
    // A unit that does not read what would be written.
    let other = unit(PLAIN, &[], &["/elsewhere"]);
    assert!(said(Platform::DcOs, &other).contains("mesos-slave-common is not there"));
    fs::write(root.path().join("opt/mesosphere/etc/mesos-slave-common"), "").unwrap();
    assert!(said(Platform::DcOs, &other).contains("mesos-slave.service does not read"));
    // A drop-in counts less than any file, and the wrapper's own variables as much as its files.
    let more = root.path().join("elsewhere");
    for (variable, is_in_the_way) in
        [("MESOS_MODULES", true), ("ETCD_AUTHORITY", true), ("MESOS_OTHER", false)]
    {
        fs::write(&more, format!("{variable}=x\n")).unwrap();
        let said = said(Platform::Mesos, &other);
        assert_eq!(said.contains(&format!("elsewhere sets {variable}")), is_in_the_way, "{said}");
    }
    let wrapper = unit(WRAPPER, &[], &[]);
    assert_eq!(said(Platform::Mesos, &wrapper), "");
    fs::write(root.path().join("etc/default/mesos-slave"), "ISOLATION=x\n").unwrap();
    assert!(said(Platform::Mesos, &wrapper).contains("default/mesos-slave sets ISOLATION"));
}

#[test]
fn the_file_of_modules_is_the_one_that_is_named() {
    let (_root, host) = host(&[]);
    let unit = unit(WRAPPER, &[], &[]);
    let place = Place::of(&host, Platform::Mesos, "mesos-slave.service", &unit).unwrap();
    let of = |set, unknown| {
        modules_file(set, unknown, Layout::of(Platform::Mesos), &place).map_err(|failure| failure.to_string())
    };
    assert_eq!(of(None, false).as_deref(), Ok("/calico/modules.json"));
    assert_eq!(of(Some(""), false).as_deref(), Ok("/calico/modules.json"));
    assert_eq!(of(Some("file:///etc/m.json"), true).as_deref(), Ok("/etc/m.json"));
    assert_eq!(of(Some("/etc/m.json"), true).as_deref(), Ok("/etc/m.json"));
    let said = of(None, true).unwrap_err();
    assert!(
        said.contains("set somewhere else than in") && said.contains("/etc/mesos-slave/modules"),
        "{said}"
    );
    for odd in ["{\"libraries\":[]}", "m.json", "file://m.json"] {
        assert!(of(Some(odd), true).unwrap_err().contains("name that as file:///PATH"), "{odd}");
    }
}

#[test]
fn a_file_that_ends_within_a_line_is_refused() {
    let (_root, host) = host(&[("etc/default/mesos-slave", "A=1 \\")]);
    let unit = unit(PLAIN, &[], &["/etc/default/mesos-slave"]);
    let place = Place::of(&host, Platform::Mesos, "mesos-slave.service", &unit).unwrap();
    assert!(place.files(&values()).unwrap_err().to_string().contains("a part of its last line"));
}

proptest! {
    #[test]
    fn a_list_keeps_what_it_has(list in "[a-c/,]{0,9}", blanks in "[ \n]{0,2}") {
        let with = with_name(&list, "name");
        let all = |list: &str| names(list).map(ToOwned::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(all(&with), [all(&list), vec!["name".to_owned()]].concat());
        prop_assert_eq!(with_name(&with, "name"), with.clone());
        prop_assert_eq!(all(&without_name(&with, "name")), all(&list));
        if !list.is_empty() {
            let text = format!("{blanks}{list}{blanks}");
            prop_assert_eq!(with_word(&text, &with), format!("{blanks}{with}{blanks}"));
        }
    }

    /// Whatever an administrator keeps in the file: it stays, and the agent is told what is wanted.
    #[test]
    fn a_file_of_variables_keeps_what_it_has(
        lines in prop::collection::vec("(MESOS_(HOOKS|ISOLATION|MASTER)|A)=[a-z\"' ,#]{0,9}|#.{0,9}|", 0..7),
    ) {
        let text = lines.join("\n");
        let (_root, host) = host(&[("etc/default/mesos-slave", &text)]);
        let unit = unit(PLAIN, &[], &["/etc/default/mesos-slave"]);
        let place = Place::of(&host, Platform::Mesos, "mesos-slave.service", &unit).unwrap();
        let Ok(mut files) = place.files(&values()) else { return Ok(()) };
        let Content::Bytes(after) = files.remove(0).content else { panic!("an artifact") };
        let after = String::from_utf8(after).unwrap();
        let ours = ["MESOS_MODULES", "MESOS_ISOLATION", "MESOS_HOOKS", AUTHORITY];
        for (name, value) in ours.into_iter().zip(["file:///m", "a,I", "H", "e:1"]) {
            let is = words::last(&after, name);
            prop_assert_eq!(is.as_deref(), Some(value));
        }
        let others = |text: &str| {
            words::environment_file(text).into_iter().filter(|(name, _)| !ours.contains(&&**name)).collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&after), others(&text));
    }
}
