//! The process dies, the power is cut, an operation fails or the disk is full: at every operation.

use super::*;

/// So many ways in which what was not synced may be lost are looked at for each operation.
const CUTS: usize = 48;

/// Everything that can be found after a death before operation `at` of `action`, with the daemon that ran on, or that
/// read its file at boot.
fn after_death_at(at: usize, before: &Tree, action: impl Fn(&World) -> Result<()>) -> (bool, Vec<World>) {
    let world = World::booted(before).troubled(Trouble::DeadFrom(at));
    let finished = action(&world).is_ok();
    // Only the process died: what is not synced may be lost later.
    let mut worlds = vec![world.revived()];
    let trees: BTreeSet<Tree> = world.disk.after_power_cut(CUTS);
    worlds.extend(trees.iter().map(World::booted));
    (finished, worlds)
}

/// No file is ever seen by half, and none under a name that someone reads before it may be.
fn assert_whole(world: &World, at: usize) {
    let tree = world.disk.tree();
    let whole = |path: &str, allowed: &[&[u8]]| {
        let found = tree.get(Path::new(path)).cloned().flatten();
        let is = found.as_ref().is_none_or(|found| allowed.contains(&&found.bytes[..]));
        assert!(is, "{at}: {path} holds {found:?}");
        found
    };
    let daemon = whole(DAEMON, &[b"theirs", b"store 1", b"store 2"]).unwrap();
    assert_eq!((daemon.mode, daemon.owner), (0o640, (5, 6)));
    let plugin = whole(PLUGIN, &[b"plugin 1", b"plugin 2"]);
    if whole(CONFIG, &[b"{\"net\":1}", b"{\"net\":2}"]).is_some() {
        assert!(plugin.is_some(), "{at}: the configuration is there without the plugin");
    }
    let in_net_d = tree.keys().filter(|path| path.parent() == Some(Path::new("/etc/net.d")));
    assert!(in_net_d.clone().all(|path| path == Path::new(CONFIG)), "{at}: {in_net_d:?}");
}

fn assert_original(world: &World, how: &str) {
    assert_eq!(world.disk.tree(), original(), "{how}");
    assert_eq!(world.loaded(), b"theirs", "{how}");
    assert_eq!(world.disk.after_power_cut(CUTS), BTreeSet::from([original()]), "{how}, power cut after that");
}

fn assert_installed(world: &World, version: u8, how: &str) {
    assert!(world.is_installed(version), "{how}: {:?}", world.disk.tree());
    for tree in world.disk.after_power_cut(CUTS) {
        assert!(has_files(&tree, version), "{how}, power cut after that: {tree:?}");
    }
}

/// From `before`, through every death of `action`: any of `versions` can be applied then, and all can be undone.
fn every_death(before: &Tree, action: impl Fn(&World) -> Result<()>, versions: &[u8]) {
    let mut looked_at = 0;
    for at in 0.. {
        let (finished, worlds) = after_death_at(at, before, &action);
        for world in &worlds {
            assert_whole(world, at);
            let how = format!("death at {at}");
            for &version in versions {
                let how = format!("{how}, applied {version}");
                let again = world.revived();
                again.apply(version).unwrap_or_else(|failure| panic!("{how}: {}", failure.one_line()));
                assert_installed(&again, version, &how);
                assert!(!again.apply(version).unwrap().changed, "{how}");
                again.undo().unwrap_or_else(|failure| panic!("{how}: {}", failure.one_line()));
                assert_original(&again, &format!("{how}, undone"));
            }
            world.undo().unwrap_or_else(|failure| panic!("{how}: {}", failure.one_line()));
            assert_original(world, &format!("{how}, undone"));
            looked_at += 1;
        }
        if finished {
            println!("{at} operations, {looked_at} states after a death");
            assert!(at > 20, "so few operations cannot be all");
            return;
        }
    }
}

#[test]
fn an_install_that_dies_anywhere_is_finished_by_the_next_and_can_be_undone() {
    every_death(&original(), |world| world.apply(1).map(drop), &[1, 2]);
}

#[test]
fn an_upgrade_that_dies_anywhere_is_finished_by_the_next_and_can_be_undone() {
    every_death(&installed(), |world| world.apply(2).map(drop), &[2, 1]);
}

#[test]
fn an_undo_that_dies_anywhere_is_finished_by_the_next() {
    every_death(&installed(), |world| world.undo().map(drop), &[1]);
}

#[test]
fn taking_back_that_dies_anywhere_is_repaired_by_the_next() {
    let fails = |world: &World| {
        let outcome = world.apply_step(&Everything { world, version: 2, works: false });
        // Taken back to its end, or dead before.
        match outcome {
            Err(failure) if failure.one_line().ends_with("all changes of this run were taken back") => Ok(()),
            Err(failure) => Err(failure),
            Ok(_) => panic!("it does not work"),
        }
    };
    every_death(&installed(), fails, &[2]);
}

#[test]
fn a_run_that_continues_a_dead_one_and_fails_takes_both_back() {
    let before = installed();
    for at in 0.. {
        let (finished, worlds) = after_death_at(at, &before, |world| world.apply(2).map(drop));
        for world in worlds {
            let assert_before = |world: &World, failure: &Failure| {
                assert_eq!(world.disk.tree(), before, "{at}: {}", failure.one_line());
                assert_eq!(world.loaded(), daemon_json(1), "{at}: {}", failure.one_line());
            };
            // It fails before it comes to do anything, and what the dead one did is taken back all the same.
            for operation in [1, 4, 9, 16, 25] {
                let early = world.revived().troubled(Trouble::FailsAt(operation));
                if let Err(failure) = early.apply(2) {
                    assert_before(&early, &failure);
                }
            }
            // It fails in the end.
            match world.apply_step(&Everything { world: &world, version: 2, works: false }) {
                // It was done before the death.
                Ok(applied) => assert!(!applied.changed && world.is_installed(2), "{at}"),
                Err(failure) => assert_before(&world, &failure),
            }
        }
        if finished {
            return;
        }
    }
}

/// Its undo leaves the directory, of which others were told, and the plugin, which they use.
struct LeftInUse<'a>(Everything<'a>);

impl Acts for LeftInUse<'_> {
    type Action = Reload;
    const NAME: StepName = StepName::Cni;

    async fn act(&self, host: &Host, action: &Reload, direction: Direction) -> Result<()> {
        self.0.act(host, action, direction).await
    }
}

impl Undo for LeftInUse<'_> {
    async fn next(&self, _: &Host, recorded: &Recorded<Reload>) -> Result<Stage<Reload>> {
        let left = [Path::new("/etc/new"), Path::new(PLUGIN)];
        let back = recorded.entries.iter().rev().map(|entry| {
            let path = entry.path.clone();
            if left.contains(&path.as_path()) { Back::Leave(path) } else { Back::Restore(path) }
        });
        Ok(Stage::of(back.collect()).then(Reload::Reload))
    }
}

#[test]
fn an_undo_that_leaves_what_others_use_and_dies_anywhere_leaves_that_and_nothing_else() {
    let undo = |world: &World| -> Result<Undone> {
        let host = world.host();
        block_on(engine(&host).undo(&LeftInUse(Everything { world, version: 0, works: true }), false))
    };
    let mut expected = original();
    expected.insert("/etc/new".into(), None);
    expected.insert(PLUGIN.into(), installed()[Path::new(PLUGIN)].clone());
    for at in 0.. {
        let (finished, worlds) = after_death_at(at, &installed(), |world| undo(world).map(drop));
        for world in worlds {
            assert_whole(&world, at);
            let undone = undo(&world).unwrap_or_else(|failure| panic!("{at}: {}", failure.one_line()));
            assert_eq!(world.disk.tree(), expected, "{at}: {undone}");
            assert_eq!(world.loaded(), b"theirs", "{at}");
            let lost = world.disk.after_power_cut(CUTS);
            assert_eq!(lost, BTreeSet::from([expected.clone()]), "{at}, power cut after that");
            // It is not ours any more: the next undo does not know it, and an install takes it over.
            assert_eq!(undo(&world).unwrap().items, [], "{at}");
            world.apply(1).unwrap();
            assert_installed(&world, 1, &at.to_string());
        }
        if finished {
            assert!(at > 10, "so few operations cannot be all");
            return;
        }
    }
}

/// What an operation that fails alone, or a disk that is full from then on, leaves.
fn assert_rolled_back(before: &Tree, version: u8, trouble: impl Fn(usize) -> Trouble) {
    let mut failed = 0;
    for at in 0.. {
        let world = World::booted(before);
        let loaded = world.loaded();
        let world = world.troubled(trouble(at));
        let Err(failure) = world.apply(version) else {
            if world.disk.operations() <= at {
                break;
            }
            assert!(world.is_installed(version), "{at}");
            continue;
        };
        failed += 1;
        let said = failure.one_line();
        assert!(
            said.contains("taken back")
                || said.contains("nothing was changed")
                || world.disk.tree() == *before,
            "{at}: {said}"
        );
        assert!([Exit::TryAgain, Exit::NotPermitted].contains(&failure.exit()), "{at}: {said}");
        if said.contains("not all changes could be taken back") {
            // What is left is finished or undone when the trouble is over.
            let world = World::running(&world.disk.tree(), world.loaded());
            world.undo().unwrap();
            assert_original(&world, &said);
            continue;
        }
        assert_eq!(&world.disk.tree(), before, "{at}: {said}");
        assert_eq!(world.loaded(), loaded, "{at}: {said}");
    }
    assert!(failed > 10, "only {failed} operations failed");
}

#[test]
fn an_operation_that_fails_anywhere_is_rolled_back() {
    assert_rolled_back(&original(), 1, Trouble::FailsAt);
    assert_rolled_back(&installed(), 2, Trouble::FailsAt);
}

#[test]
fn a_disk_that_is_full_from_anywhere_on_is_rolled_back() {
    assert_rolled_back(&original(), 1, Trouble::FullFrom);
    assert_rolled_back(&installed(), 2, Trouble::FullFrom);
}
