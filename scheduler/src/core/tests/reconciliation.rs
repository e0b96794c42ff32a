//! What the master is asked, and what becomes of tasks that no record tells of.

use std::time::Duration;

use super::script::{Script, acknowledged, asked, killed, last_asked, ready, state};
use super::*;

fn initialised() -> Script {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    script
}

/// A task that was launched, but not by what is stored.
fn stranger(task_type: TaskType) -> TaskId {
    TaskId::new(task_type, &"a:5051".into(), Timestamp(7))
}

#[test]
fn a_launch_without_an_answer_is_asked_about_and_made_again_once_it_is_gone() {
    let mut script = initialised();
    let proxy = script.launches("a", TaskType::EtcdProxy);
    assert_eq!(asked(&script.wait(Duration::from_secs(59))), None);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![proxy.clone()]));
    script.declines("a");

    let gone = Update { message: "Reconciliation: task is unknown".into(), ..state(TaskState::Gone) };
    let frame = script.update("a", &proxy, gone);
    assert!(!acknowledged(&frame));
    let status = (Status::Delayed, "Reconciliation: task is unknown".to_owned());
    assert_eq!(script.step("etcd-proxy.a:5051"), status);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), None);
    let again = script.launches("a", TaskType::EtcdProxy);
    assert_ne!(again, proxy);
}

#[test]
fn an_unanswered_question_is_asked_again_ever_more_slowly() {
    let mut script = initialised();
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.wait(Duration::from_mins(1));
    for wait in [5, 10, 20, 40, 80, 160, 300] {
        // Spread: up to a quarter sooner.
        let least = if wait == 5 { 5 } else { wait * 3 / 4 };
        assert_eq!(asked(&script.wait(Duration::from_secs(least - 1))), None);
        let again = (least..=wait).any(|_| asked(&script.wait(Duration::from_secs(1))).is_some());
        assert!(again, "not within {wait} s");
    }
    // The full one that is due does not wait for answers that may never come.
    let full = (0..900).any(|_| asked(&script.wait(Duration::from_secs(1))) == Some(vec![]));
    assert!(full);
    // And that is not forgotten over it.
    assert!((0..300).any(|_| asked(&script.wait(Duration::from_secs(1))) == Some(vec![proxy.clone()])));
    script.ready("a", &proxy);
    assert_eq!(asked(&script.wait(Duration::from_mins(5))), None);
}

#[test]
fn a_launch_that_was_answered_is_not_asked_about() {
    let mut script = initialised();
    let proxy = script.launches("a", TaskType::EtcdProxy);
    script.reports("a", &proxy, state(TaskState::Starting));
    assert_eq!(asked(&script.wait(Duration::from_mins(1))), None);
}

#[test]
fn the_master_is_asked_for_all_now_and_then_and_by_name_for_what_it_leaves_out() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    let cni = script.launches("a", TaskType::Cni);
    script.reports("a", &cni, state(TaskState::Running));
    assert_eq!(asked(&script.wait(Duration::from_mins(15))), Some(vec![]));
    script.update("a", &proxy, ready());
    assert_eq!(asked(&script.wait(Duration::from_secs(5))), Some(vec![cni.clone()]));
    script.update("a", &cni, state(TaskState::Gone));
    assert_eq!(script.step("cni.a:5051"), (Status::Delayed, "it is gone".into()));
    assert_eq!(asked(&script.wait(Duration::from_mins(14))), None);
    assert_eq!(asked(&script.wait(Duration::from_mins(1))), Some(vec![]));
}

#[test]
fn all_live_tasks_are_asked_about_after_each_subscription() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    let cni = script.launches("a", TaskType::Cni);
    script.send(Input::Disconnected);
    let frame = script.subscribed();
    assert_eq!(asked(&frame), Some(vec![cni.clone(), proxy.clone()]));
    assert!(frame.effects.contains(&Effect::RefreshInventory));
    script.update("a", &proxy, ready());
    assert_eq!(asked(&script.wait(Duration::from_secs(5))), Some(vec![cni]), "only what is not answered");
}

#[test]
fn an_unknown_task_is_judged_only_after_the_inventory() {
    let mut script = Script::new(settings());
    script.subscribed();
    let proxy = stranger(TaskType::EtcdProxy);
    assert_eq!(script.ready("a", &proxy), Frame::default(), "not acknowledged, so it comes again");
    script.agents(&["a"]);
    let frame = script.ready("a", &proxy);
    assert!(acknowledged(&frame));
    assert_eq!(killed(&frame), []);
}

#[test]
fn an_unknown_task_on_an_agent_that_is_not_in_the_inventory_yet_is_not_judged() {
    let mut script = initialised();
    let proxy = stranger(TaskType::EtcdProxy);
    let frame = script.ready("b", &proxy);
    assert_eq!(frame.effects, [Effect::RefreshInventory]);
    script.agents(&["a", "b"]);
    script.ready("b", &proxy);
    assert_eq!(script.step("etcd-proxy.b:5051"), (Status::Complete, "ready".into()));
}

#[test]
fn an_unknown_task_is_adopted_when_its_place_is_empty() {
    let mut script = initialised();
    let proxy = stranger(TaskType::EtcdProxy);
    let frame = script.ready("a", &proxy);
    assert_eq!(killed(&frame), []);
    assert!(acknowledged(&frame));
    let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
    assert!(frame.decisions.contains(&Decision::Adopted { slot, task: proxy.clone() }));
    assert_eq!(script.step("etcd-proxy.a:5051"), (Status::Complete, "ready".into()));
    let task = &script.agent_view("a").tasks[0];
    assert_eq!((&task.task_id, task.outdated), (&Some(proxy.clone()), true));
    // A word that came too late may have been of a task that has ended.
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![proxy]));
}

#[test]
fn an_unknown_task_is_adopted_rather_than_another_launched_after_a_failure() {
    let mut script = initialised();
    let first = script.launches("a", TaskType::EtcdProxy);
    script.update("a", &first, state(TaskState::Gone));
    let frame = script.ready("a", &first);
    assert_eq!(killed(&frame), []);
    script.wait(Duration::from_mins(1));
    script.launches("a", TaskType::Cni);
}

#[test]
fn an_unknown_task_is_killed_when_another_has_its_place_until_it_has_ended() {
    let mut script = initialised();
    let ours = script.reaches("a", TaskType::EtcdProxy);
    let theirs = stranger(TaskType::EtcdProxy);
    let frame = script.ready("a", &theirs);
    assert_eq!(killed(&frame), std::slice::from_ref(&theirs));
    assert!(acknowledged(&frame));
    let reason = format!("{ours} has its place");
    assert!(frame.decisions.contains(&Decision::Killed { task: theirs.clone(), reason }));

    // Every word of it would otherwise be answered with a kill, and every kill with a word.
    assert_eq!(killed(&script.ready("a", &theirs)), []);
    for _ in 0..3 {
        assert_eq!(killed(&script.wait(Duration::from_secs(29))), []);
        assert_eq!(killed(&script.wait(Duration::from_secs(1))), std::slice::from_ref(&theirs));
    }
    let frame = script.failed("a", &theirs, "Command terminated with signal Terminated");
    assert!(acknowledged(&frame));
    assert_eq!(killed(&script.wait(Duration::from_mins(1))), []);
    assert_eq!(script.step("etcd-proxy.a:5051").0, Status::Complete);
}

#[test]
fn a_task_that_is_not_of_our_types_is_killed() {
    let mut script = initialised();
    let task = TaskId::from("net-modules.a.5051.7");
    assert_eq!(killed(&script.ready("a", &task)), [task]);
}

#[test]
fn an_unknown_task_that_cannot_be_reached_is_nothing_to_kill() {
    let mut script = initialised();
    script.reaches("a", TaskType::EtcdProxy);
    for host in ["a", "gone"] {
        let frame = script.update(host, &stranger(TaskType::EtcdProxy), state(TaskState::Unreachable));
        assert_eq!(frame, Frame::default());
    }
}

#[test]
fn the_end_of_an_unknown_task_is_only_acknowledged() {
    let mut script = initialised();
    let frame = script.failed("a", &stranger(TaskType::Cni), "Command exited with status 1");
    assert!(acknowledged(&frame));
    assert_eq!((frame.changes.len(), frame.effects.len()), (0, 1));
}

#[test]
fn an_agent_that_is_back_is_asked_what_became_of_its_tasks() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.update("a", &proxy, state(TaskState::Unreachable));
    script.agents(&[]);
    script.agents(&["a"]);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![proxy]));
}

/// Another scheduler, a minute later, with what is stored.
fn another(script: &mut Script) {
    script.now = script.now.after(Duration::from_mins(1));
    script.restart();
    script.subscribed();
}

#[test]
fn who_begins_with_what_is_stored_launches_nothing_before_the_master_has_told_of_all_tasks() {
    let mut script = initialised();
    script.tells_all = false;
    another(&mut script);
    script.declines("a");
    let frame = script.agents(&["a"]);
    let [Effect::Reconcile(all), Effect::Reconcile(last)] = &frame.effects[..] else { panic!("{frame:?}") };
    assert!(all.is_empty() && last.len() == 1);
    // One that was found where nothing was known of it is what is there.
    let proxy = stranger(TaskType::EtcdProxy);
    let frame = script.ready("a", &proxy);
    let slot = Slot::Agent("a:5051".into(), TaskType::EtcdProxy);
    let adopted = Decision::Adopted { slot: slot.clone(), task: proxy };
    assert_eq!(frame.decisions, [adopted, Decision::Reached { slot }]);
    script.declines("a");
    let frame = script.update("", &last[0].0, state(TaskState::Gone));
    assert_eq!(frame.effects, [Effect::Revive]);
    script.launches("a", TaskType::Cni);
}

#[test]
fn a_master_that_does_not_say_when_it_has_told_all_is_waited_for_and_asked_again_by_the_next_subscription() {
    let mut script = initialised();
    script.tells_all = false;
    another(&mut script);
    script.agents(&["a"]);
    script.wait(Duration::from_secs(19));
    script.declines("a");
    script.send(Input::Disconnected);
    let first: Vec<TaskId> = last_asked(&script.subscribed()).collect();
    assert_eq!(first.len(), 0, "the list of agents may be old by now");
    let again: Vec<TaskId> = last_asked(&script.wait(Duration::from_secs(1))).collect();
    assert_eq!(again.len(), 1);
    script.wait(Duration::from_secs(19));
    script.declines("a");
    script.wait(Duration::from_secs(1));
    script.launches("a", TaskType::EtcdProxy);
}

#[test]
fn a_task_that_was_launched_after_all_that_is_stored_shows_that_records_are_lost_and_is_told_once() {
    let mut script = initialised();
    let before = (script.stored.clone(), script.now);
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.wait(Duration::from_mins(10));
    let cni = script.launches("a", TaskType::Cni);
    // A scheduler that begins with what was stored before.
    script.stored = before.0;
    script.tells_all = false;
    another(&mut script);
    let last = last_asked(&script.agents(&["a", "b"])).next().unwrap();
    let outdated = |frame: &Frame| {
        let told = frame.decisions.iter().filter_map(|decision| match decision {
            Decision::Outdated { what } => Some(what.clone()),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let told = outdated(&script.ready("a", &proxy));
    assert!(told.len() == 1 && told[0].starts_with(&format!("{proxy} was launched at ")), "{told:?}");
    assert_eq!(script.step("etcd-proxy.a:5051").0, Status::Complete);
    assert_eq!(outdated(&script.reports("a", &cni, state(TaskState::Running))), [""; 0]);
    // From now on the master has its time, and is asked again when an agent comes.
    script.update("", &last, state(TaskState::Gone));
    script.declines("b");
    script.tells_all = true;
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![]));
    script.declines("b");
    script.wait(Duration::from_secs(20));
    script.launches("b", TaskType::EtcdProxy);
    script.tells_all = false;
    let last = last_asked(&script.agents(&["a", "b", "c"])).next().unwrap();
    script.declines("c");
    let late = TaskId::new(TaskType::EtcdProxy, &"c:5051".into(), before.1.after(Duration::from_secs(9)));
    script.ready("c", &late);
    script.update("", &last, state(TaskState::Gone));
    script.launches("c", TaskType::Cni);
}

#[test]
fn tasks_of_before_the_last_that_is_stored_and_of_this_life_show_nothing() {
    let mut script = initialised();
    script.reaches("a", TaskType::EtcdProxy);
    another(&mut script);
    script.agents(&["a"]);
    let own = script.launches("a", TaskType::Cni);
    script.update("a", &own, state(TaskState::Gone));
    for task in [stranger(TaskType::CalicoNode), own] {
        let frame = script.reports("a", &task, state(TaskState::Running));
        let adopted = |decision: &Decision| matches!(decision, Decision::Adopted { .. });
        assert!(frame.decisions.len() == 1 && frame.decisions.iter().all(adopted), "{frame:?}");
    }
}

#[test]
fn when_more_was_done_than_is_stored_all_tasks_are_asked_for_for_a_while_before_anything_is_launched() {
    let mut script = initialised();
    script.restart_with(Settings { doubtful: true, ..settings() });
    script.subscribed();
    // Not before the first inventory: what is not known could not be judged.
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), None);
    assert_eq!(asked(&script.agents(&["a"])), Some(vec![]));
    script.declines("a");
    let (proxy, cni) = (stranger(TaskType::EtcdProxy), stranger(TaskType::Cni));
    script.reports("a", &proxy, ready());
    assert!(matches!(script.phase("a", TaskType::EtcdProxy), Some(Phase::Active { .. })));
    script.declines("a");
    // An agent that the master did not know yet may have joined.
    assert_eq!(asked(&script.wait(Duration::from_secs(5))), Some(vec![]));
    script.reports("a", &cni, state(TaskState::Running));
    script.declines("a");
    script.wait(Duration::from_secs(15));
    script.finished("a", &cni);
    script.launches("a", TaskType::CalicoNode);
    // From then on it is as ever.
    assert_ne!(asked(&script.wait(Duration::from_secs(10))), Some(vec![]));
    assert_ne!(asked(&script.wait(Duration::from_mins(10))), Some(vec![]));
}

#[test]
fn a_new_question_does_not_wait_behind_an_old_one() {
    let mut script = Script::with_agents(settings(), &["a", "b"]);
    script.reaches("a", TaskType::ClusterInit);
    let old = script.launches("a", TaskType::EtcdProxy);
    // Its agent is one that the master has not heard of: no answer comes.
    script.wait(Duration::from_mins(1));
    for wait in [5, 10, 20, 40, 80, 160] {
        assert_eq!(asked(&script.wait(Duration::from_secs(wait))), Some(vec![old.clone()]));
    }
    let new = script.launches("b", TaskType::EtcdProxy);
    assert_eq!(asked(&script.wait(Duration::from_mins(1))), Some(vec![new.clone()]));
    assert_eq!(asked(&script.wait(Duration::from_secs(5))), Some(vec![new.clone()]));
    // And what is open for long is asked at once when there is news of its agent.
    script.agents(&["b"]);
    script.agents(&["a", "b"]);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![old]));
}

#[test]
fn a_task_that_was_adopted_is_no_longer_to_be_killed() {
    let mut script = initialised();
    let ours = script.reaches("a", TaskType::EtcdProxy);
    let theirs = stranger(TaskType::EtcdProxy);
    assert_eq!(killed(&script.ready("a", &theirs)), std::slice::from_ref(&theirs));
    script.failed("a", &ours, "Command exited with status 1");
    let frame = script.ready("a", &theirs);
    assert!(frame.decisions.iter().any(|decision| matches!(decision, Decision::Adopted { .. })), "{frame:?}");
    assert_eq!(killed(&script.wait(Duration::from_mins(1))), []);
    assert_eq!(script.step("etcd-proxy.a:5051").0, Status::Complete);
}

#[test]
fn the_round_about_all_waits_for_the_one_by_name() {
    let mut script = initialised();
    let proxy = script.reaches("a", TaskType::EtcdProxy);
    script.wait(Duration::from_secs(15 * 60 - 3));
    script.agents(&[]);
    script.agents(&["a"]);
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![proxy.clone()]));
    for _ in 0..4 {
        assert_eq!(asked(&script.wait(Duration::from_secs(1))), None, "the master has its time to answer");
    }
    let frame = script.wait(Duration::from_secs(1));
    assert_eq!(frame.effects, [Effect::Reconcile(vec![])], "and not about both at once");
    for _ in 0..4 {
        assert_eq!(asked(&script.wait(Duration::from_secs(1))), None);
    }
    assert_eq!(asked(&script.wait(Duration::from_secs(1))), Some(vec![proxy]));
}
