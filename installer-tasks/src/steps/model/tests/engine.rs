//! What the engine promises when nothing dies.

use super::*;

#[test]
fn nothing_to_do_is_no_operation_at_all() {
    let world = World::booted(&installed()).troubled(Trouble::DeadFrom(0));
    assert!(!world.apply(1).unwrap().changed);
    assert_eq!((world.disk.operations(), *world.reloads.lock().unwrap()), (0, 0));
}

#[test]
fn a_check_is_no_operation_at_all() {
    let interrupted = World::booted(&original()).troubled(Trouble::DeadFrom(40));
    interrupted.apply(1).unwrap_err();
    let interrupted = interrupted.disk.tree();
    assert!(interrupted.contains_key(Path::new(STATE)), "it had begun");
    for tree in [original(), installed(), interrupted] {
        let world = World::booted(&tree).troubled(Trouble::DeadFrom(0));
        let host = world.host();
        let step = Everything { world: &world, version: 2, works: true };
        let plan = block_on(engine(&host).check(&step)).unwrap();
        assert_eq!(plan.verdict(), Verdict::Changes);
        assert_eq!((world.disk.operations(), *world.reloads.lock().unwrap()), (0, 0));
    }
}

#[test]
fn a_plan_says_what_and_why_in_order() {
    let world = World::booted(&original());
    let host = world.host();
    let step = Everything { world: &world, version: 1, works: true };
    let plan = block_on(engine(&host).check(&step)).unwrap();
    let said: Vec<String> = plan.changes().iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "write /etc/daemon/daemon.json: its content differs",
            "reload the daemon: it does not use its file yet",
            "write /opt/bin/plugin: it is missing",
            "make the directory /etc/new: it is missing",
            "make the directory /etc/new/deep: it is missing",
            "write /etc/new/deep/file: it is missing",
            "write /etc/net.d/net.conf: it is missing",
        ]
    );
    let json = serde_json::to_value(Report::of_plan(&plan)).unwrap();
    assert_eq!(json["verdict"], "changes");
    assert_eq!(json["exit"], 1);
    assert_eq!(json["changes"][1]["action"], "reload the daemon");
    assert_eq!(json["changes"][0]["mode"], "0640");
}

#[test]
fn what_does_not_work_is_taken_back_with_its_effect() {
    for before in [original(), installed()] {
        let world = World::booted(&before);
        let loaded = world.loaded();
        let step = Everything { world: &world, version: 2, works: false };
        let failure = world.apply_step(&step).unwrap_err();
        assert_eq!(failure.one_line(), "the daemon does not use it; all changes of this run were taken back");
        assert_eq!(world.disk.tree(), before);
        assert_eq!(world.loaded(), loaded);
        assert_eq!(*world.reloads.lock().unwrap(), 2, "forward and back");
    }
}

#[test]
fn a_restart_that_is_not_allowed_changes_nothing() {
    /// Any change takes a restart.
    struct Restarting<'a>(Everything<'a>);

    impl Acts for Restarting<'_> {
        type Action = Reload;
        const NAME: StepName = StepName::Cni;

        async fn act(&self, host: &Host, action: &Reload, direction: Direction) -> Result<()> {
            self.0.act(host, action, direction).await
        }
    }

    impl Step for Restarting<'_> {
        async fn check(&self, host: &Host, recorded: &Recorded<Reload>) -> Result<Proposal<Reload>> {
            let mut proposal = self.0.check(host, recorded).await?;
            proposal.restart("the daemon takes a second store only when it starts");
            Ok(proposal)
        }

        async fn verify(&self, host: &Host, plan: &Plan<Reload>) -> Result<()> {
            self.0.verify(host, plan).await
        }
    }

    let world = World::booted(&original());
    let host = world.host();
    let step = Restarting(Everything { world: &world, version: 1, works: true });
    let plan = block_on(engine(&host).check(&step)).unwrap();
    assert_eq!(plan.verdict(), Verdict::NeedsRestart);
    assert_eq!(Report::of_plan(&plan).outcome().unwrap_err().exit(), Exit::RestartNeeded);
    let failure = block_on(engine(&host).apply(&step, plan.clone(), Restarts::Forbidden)).unwrap_err();
    assert_eq!(failure.exit(), Exit::RestartNeeded);
    assert!(failure.to_string().contains("--allow-restart"), "{failure}");
    assert_eq!(world.disk.tree(), original());
    block_on(engine(&host).apply(&step, plan, Restarts::Allowed)).unwrap();
    assert!(world.is_installed(1));
    // Nothing to do takes no restart.
    let plan = block_on(engine(&host).check(&step)).unwrap();
    assert_eq!((plan.verdict(), plan.restart()), (Verdict::NothingToDo, None));
}

#[test]
fn undo_keeps_a_directory_that_others_use_and_says_so() {
    let world = World::booted(&original());
    world.apply(1).unwrap();
    world.disk.create(Path::new("/etc/new/others")).unwrap();
    let undone = world.undo().unwrap();
    assert!(undone.items.contains(&UndoneItem::Kept { path: "/etc/new".into() }), "{undone}");
    assert!(undone.items.contains(&UndoneItem::Removed { path: "/etc/new/deep".into() }), "{undone}");
    assert!(!world.disk.tree().contains_key(Path::new(STATE)));
}

#[test]
fn undo_leaves_all_as_it_is_when_one_file_is_someone_elses_by_now() {
    let mut tree = installed();
    let theirs = Found { bytes: b"patched".to_vec(), mode: 0o755, owner: (0, 0) };
    tree.insert(PathBuf::from(PLUGIN), Some(theirs));
    let world = World::booted(&tree);
    let failure = world.undo().unwrap_err();
    assert_eq!(failure.exit(), Exit::Unsuitable);
    assert!(failure.to_string().contains(PLUGIN), "{failure}");
    assert_eq!(world.disk.tree(), tree);
    let host = world.host();
    let step = Everything { world: &world, version: 0, works: true };
    block_on(engine(&host).undo(&step, true)).unwrap();
    assert_eq!(world.disk.tree(), original());
}

#[test]
fn what_someone_else_wrote_into_an_interrupted_install_is_what_comes_back() {
    // Dies when the daemon's file is in place.
    let world = World::booted(&original());
    let mut at = 0;
    let mut tree = loop {
        let world = World::booted(&original()).troubled(Trouble::DeadFrom(at));
        world.apply(1).unwrap_err();
        let tree = world.disk.tree();
        if tree[Path::new(DAEMON)].as_ref().is_some_and(|it| it.bytes == b"store 1") {
            break tree;
        }
        at += 1;
    };
    drop(world);
    let patched = Found { bytes: b"patched".to_vec(), mode: 0o640, owner: (5, 6) };
    tree.insert(DAEMON.into(), Some(patched.clone()));
    let world = World::booted(&tree);
    world.apply(2).unwrap();
    world.undo().unwrap();
    let mut expected = original();
    expected.insert(DAEMON.into(), Some(patched));
    assert_eq!(world.disk.tree(), expected);
}
