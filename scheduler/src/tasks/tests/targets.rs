//! What targets stand for, also in other versions and under other configurations.

use super::*;

/// A target that agents are on must stay theirs: another one would be a rollout that nobody asked for.
/// What another installer is asked for, that of an upgrade, is another one in any case.
#[test]
fn the_targets_of_a_configuration_are_the_same_in_every_version() {
    let targets = targets(&config(&[]));
    assert_eq!(
        [TaskType::ClusterInit, TaskType::CalicoNode].map(|task_type| &*targets[&task_type].0),
        [
            "53e9553ac7973cd86f3fc833896ab748636fba914c83b7a35edf9acdd66838e6",
            "3035d9235827c9ba29870b1d38b782a9f908cb597dc0743065ab8eb42d1e88c2",
        ]
    );
}

#[test]
fn what_an_earlier_configuration_defined_is_launched_as_it_was_then() {
    let (before, now) =
        (config(&[]), config(&[("NODE_IMAGE", "calico/node:v3.15.0"), ("CNI_ENABLE", "false")]));
    let (old, new) = (TaskTypes::new(&before), TaskTypes::new(&now));
    // Stored and read again.
    let stored = serde_json::to_string(&old.definitions()).unwrap();
    let defined: BTreeMap<TargetHash, Definition> = serde_json::from_str(&stored).unwrap();
    let (all, unreadable) = new.learn(&defined);
    assert_eq!(unreadable, []);
    assert_eq!((all.specs(), all.definitions()), (new.specs(), new.definitions()), "nothing else is wanted");

    for (task_type, spec) in old.specs() {
        let launch = |tasks: &TaskTypes, may_restart| {
            tasks.task_info(&spec.target, &TaskId::from("t1"), Place { may_restart, ..place() })
        };
        for may_restart in [false, true] {
            let expected = launch(&old, may_restart);
            assert!(expected.is_some());
            assert_eq!(launch(&all, may_restart), expected, "{task_type}");
        }
        // What is fetched before is another one, too.
        let changed = [TaskType::CalicoNode, TaskType::Cni, TaskType::Prefetch].contains(&task_type);
        assert_eq!(launch(&new, false).is_none(), changed, "{task_type}");
        let Definition { task_type: of, goal, needs, .. } = &defined[&spec.target];
        assert_eq!((*of, *goal, *needs), (task_type, spec.goal, spec.needs));
    }
}

#[test]
fn a_definition_that_cannot_be_read_is_told_and_left_out() {
    let tasks = TaskTypes::new(&config(&[]));
    let good = tasks.specs()[&TaskType::Cni].target.clone();
    let definition = &tasks.definitions()[&good];
    let with = |template: String| Definition { template, ..definition.clone() };
    let newer = with(definition.template.replacen('{', r#"{"more":1,"#, 1));
    let older = with(definition.template.replace(r#","service":false"#, ""));
    let changed = with(definition.template.replace("10.0.0.9", "10.0.0.8"));
    let hashed = |definition: &Definition| {
        TargetHash::from(hex::encode(Sha256::digest(definition.template.as_bytes())))
    };
    let defined = BTreeMap::from([
        (good, definition.clone()),
        (hashed(&newer), newer.clone()),
        (hashed(&older), older.clone()),
        ("0badcafe".into(), changed),
    ]);
    let (learnt, mut unreadable) = TaskTypes::default().learn(&defined);
    assert_eq!(learnt.templates.len(), 1, "only the good one");
    unreadable.sort_by(|a, b| a.problem.cmp(&b.problem));
    for (told, (target, problem)) in unreadable.iter().zip([
        (hashed(&older), "missing field `service`"),
        (hashed(&newer), "unknown field `more`"),
        ("0badcafe".into(), "is not what that target was made of"),
    ]) {
        let said = told.to_string();
        assert_eq!(told.target, target, "{said}");
        let begin = format!("cni of target {target} cannot be launched again: its stored definition ");
        assert!(said.starts_with(&begin) && said.contains(problem), "{said}");
        assert!(said.contains("start the version that stored it"), "{said}");
    }
    assert_eq!(unreadable.len(), 3);
}

#[test]
fn what_a_task_type_needs_of_others_is_the_same_when_it_is_not_wanted() {
    let (all, none) = (TaskTypes::new(&config(&[])), TaskTypes::new(&config(UNWANTED)));
    assert_eq!(all.unwanted(), BTreeMap::new());
    let unwanted: Vec<TaskType> = none.unwanted().into_keys().collect();
    assert_eq!(unwanted.len() + none.specs().len(), TaskType::ALL.len());
    for task_type in unwanted {
        let (wanted, unwanted) = (&all.specs()[&task_type], &none.unwanted()[&task_type]);
        let of = |spec: &Spec| {
            let Spec { after, requires, beside, restart, min_mesos, .. } = spec.clone();
            (after, requires, beside, restart, min_mesos)
        };
        assert_eq!(of(wanted), of(unwanted), "{task_type}");
    }
    assert_eq!(none.unwanted()[&TaskType::Libnetwork].requires, [TaskType::DockerClusterStore]);
}
