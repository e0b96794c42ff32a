use proptest::prelude::*;
use serde_json::Value;

use super::*;

const DCOS: &str = "MESOS_WORK_DIR=/var/lib/mesos/slave\nMESOS_ISOLATION=cgroups/cpu,cgroups/mem\n\
                    MESOS_HOOKS=com_mesosphere_StatsEnvHook\nMESOS_MODULES=file:///opt/mesosphere/etc/mesos-slave-modules.json\n";

fn installed(text: &str) -> String {
    let with = |text: &str, flag: &str, name: &str| {
        let list = words::last(text, &variable(flag)).unwrap_or_default();
        words::with_value(text, &variable(flag), &with_name(&list, name)).unwrap()
    };
    let text = match words::last(text, "MESOS_MODULES") {
        Some(_) => text.to_owned(),
        None => words::with_assignment(text, "MESOS_MODULES", "file:///calico/modules.json"),
    };
    let text = with(&with(&text, ISOLATION, ISOLATOR), HOOKS, HOOK);
    words::with_value(&text, AUTHORITY, "127.0.0.1:2379").unwrap()
}

#[test]
fn our_names_go_from_variables_that_others_changed_since() {
    let now = installed(DCOS).replace("cgroups/mem", "cgroups/mem,posix/disk") + "MESOS_NEW=1\n";
    let expected = DCOS.replace("cgroups/mem", "cgroups/mem,posix/disk") + "MESOS_NEW=1\n";
    assert_eq!(in_variables(&now, DCOS, &[]), Some(expected));
    // A variable that was not there goes, unless others have put something into it, or named another file.
    let now = installed("A=1\n").replace("MESOS_ISOLATION=\"", "MESOS_ISOLATION=\"theirs,") + "B=2\n";
    assert_eq!(in_variables(&now, "A=1\n", &[]).as_deref(), Some("A=1\nMESOS_ISOLATION=\"theirs\"\nB=2\n"));
    let now = installed("A=1\n").replace("/calico/modules.json", "/theirs.json");
    assert_eq!(
        in_variables(&now, "A=1\n", &[]).as_deref(),
        Some("A=1\nMESOS_MODULES=\"file:///theirs.json\"\n")
    );
    // An address of etcd that was there comes back.
    let before = "ETCD_AUTHORITY=10.0.0.1:4001\n";
    assert_eq!(
        in_variables(&(installed(before) + "B=2\n"), before, &[]).as_deref(),
        Some("ETCD_AUTHORITY=10.0.0.1:4001\nB=2\n")
    );
}

#[test]
fn an_address_of_etcd_goes_where_it_is_ours_and_stays_where_someone_has_set_it_since() {
    for before in ["ETCD_AUTHORITY=10.0.0.8:2379\n", "A=1\n", "", DCOS] {
        let wrote = installed(before).replace("127.0.0.1:2379", "10.0.0.1:2379");
        let hashes = [files::sha256_hex(wrote.as_bytes())];
        let authority = |now: &str| words::last(&in_variables(now, before, &hashes).unwrap(), AUTHORITY);
        let changed = wrote.replace("cgroups/mem", "cgroups/mem,posix/disk") + "B=2\n";
        for ours in [&wrote, &changed, &changed.replace("10.0.0.1:2379", "127.0.0.1:2379")] {
            assert_eq!(authority(ours), words::last(before, AUTHORITY), "{ours}");
        }
        for now in [&wrote, &changed] {
            let theirs = now.replace("10.0.0.1:2379", "10.0.0.9:2379");
            assert_eq!(authority(&theirs).as_deref(), Some("10.0.0.9:2379"), "{theirs}");
        }
        assert_eq!(authority(&words::without(&changed, AUTHORITY)), None);
    }
}

#[test]
fn our_name_goes_from_a_list_and_our_library_from_a_file_of_modules() {
    assert_eq!(in_list(&format!("a,{ISOLATOR},b\n"), ISOLATOR).as_deref(), Some("a,b\n"));
    assert_eq!(in_list(&format!("{ISOLATOR}\n"), ISOLATOR), None);
    let library = "/opt/mesosphere/lib/libmesos_network_isolator.so";
    let now =
        format!("{{\"libraries\": [{{\"file\": \"a\"}}, {{\"file\": \"{library}\"}}, {{\"file\": \"b\"}}]}}");
    let without = in_modules(&now, Some("{\"libraries\": [{\"file\": \"a\"}]}")).unwrap();
    assert_eq!(without, "{\"libraries\": [{\"file\": \"a\"}, {\"file\": \"b\"}]}");
    assert!(in_modules("{", None).is_err());
}

proptest! {
    #[test]
    fn taking_out_gives_what_was_there_and_what_others_added(
        lines in prop::collection::vec("(MESOS_(HOOKS|ISOLATION|MASTER)|A)=[a-z]{1,5}|#[a-z]{0,9}|", 0..7),
        added in "B=[a-z]{1,5}\n",
    ) {
        let before = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
        let now = installed(&before) + &added;
        prop_assert_eq!(in_variables(&now, &before, &[]), Some(before + &added));
    }

    #[test]
    fn taking_out_of_a_file_of_modules_keeps_what_others_added(files in prop::collection::vec("[a-z]{1,5}", 0..4)) {
        let entry = |file: &str| serde_json::json!({ "file": file, "modules": [] });
        let libraries: Vec<Value> = files.iter().map(|file| entry(file)).collect();
        let before = serde_json::json!({ "libraries": libraries }).to_string();
        let library = super::super::modules_json::Library { file: "/opt/net-modules/libmesos_network_isolator.so", command: "c" };
        let with = ModulesJson::parse(Some(before.as_bytes())).unwrap().with(library).unwrap();
        let mut now: Value = serde_json::from_str(with.text()).unwrap();
        now["libraries"].as_array_mut().unwrap().push(entry("added"));
        let without: Value = serde_json::from_str(&in_modules(&now.to_string(), Some(&before)).unwrap()).unwrap();
        let expected = [libraries, vec![entry("added")]].concat();
        prop_assert_eq!(&without["libraries"], &Value::from(expected));
    }
}
