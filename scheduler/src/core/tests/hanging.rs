//! Tasks that begin, and come to nothing.

use std::time::Duration;

use super::script::{Script, asked, killed, not_ready, ready, state};
use super::*;

const LIMIT: Duration = Duration::from_mins(15);

fn starting(task_type: TaskType) -> (Script, TaskId) {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.reaches("a", TaskType::ClusterInit);
    if task_type == TaskType::Cni {
        script.reaches("a", TaskType::EtcdProxy);
    }
    let task = script.launches("a", task_type);
    script.reports("a", &task, state(TaskState::Starting));
    (script, task)
}

/// Time goes by until the master is asked about `task`, which is soon.
fn is_asked(script: &mut Script, task: &TaskId) {
    let about = |frame: &Frame| asked(frame).is_some_and(|tasks| tasks.contains(task));
    assert!((0..10).any(|_| about(&script.wait(Duration::from_secs(1)))), "nobody asks about {task}");
}

#[test]
fn an_install_that_hangs_is_ended_and_tried_again() {
    let (mut script, cni) = starting(TaskType::Cni);
    let since = script.now;
    script.reports("a", &cni, state(TaskState::Running));
    assert_eq!(script.agent_view("a").tasks[1].since, Some(since), "since when is shown");
    script.wait(LIMIT.checked_sub(Duration::from_secs(5)).unwrap());
    assert_eq!(killed(&script.update("a", &cni, state(TaskState::Running))), []);
    // That it hangs is the master's word: it may have ended, and that be on its way.
    script.now = script.now.after(Duration::from_secs(5));
    is_asked(&mut script, &cni);
    let frame = script.update("a", &cni, state(TaskState::Running));
    assert_eq!(killed(&frame), std::slice::from_ref(&cni));
    let reason = format!("it is still at its beginning, since {since}");
    assert!(frame.decisions.contains(&Decision::Killed { task: cni.clone(), reason }));
    // Every word of it must not be answered with a kill.
    assert_eq!(killed(&script.update("a", &cni, state(TaskState::Running))), []);
    assert_eq!(killed(&script.wait(Duration::from_secs(30))), std::slice::from_ref(&cni));

    script.failed("a", &cni, "Command terminated with signal Terminated");
    let why = "it was still at its beginning after 15m (agents.task-timeout), and was ended (Command terminated with \
               signal Terminated)";
    assert_eq!(script.step("cni.a:5051"), (Status::Delayed, why.to_owned()));
    assert_eq!(script.agent_view("a").tasks[1].failures, 1);
    assert_eq!(killed(&script.wait(Duration::from_mins(1))), []);
    script.reaches("a", TaskType::Cni);
}

#[test]
fn one_that_ends_while_it_is_asked_about_is_done() {
    let (mut script, cni) = starting(TaskType::Cni);
    script.now = script.now.after(LIMIT);
    is_asked(&mut script, &cni);
    assert_eq!(killed(&script.finished("a", &cni)), []);
    assert_eq!(script.step("cni.a:5051"), (Status::Complete, "done".into()));
}

/// Found by the simulation: an agent tells one update after the other, each when the one before is acknowledged. So what the
/// master knows of a task may be from before a scheduler was away, and the task runs.
#[test]
fn nobodys_time_begins_before_the_subscription() {
    let (mut script, cni) = starting(TaskType::Cni);
    script.now = script.now.after(LIMIT);
    script.restart();
    assert_eq!(killed(&script.wait(Duration::from_secs(1))), []);
    script.subscribed();
    script.agents(&["a"]);
    assert_eq!(killed(&script.update("a", &cni, state(TaskState::Starting))), []);
    assert_eq!(killed(&script.wait(Duration::from_mins(5))), []);
    assert_eq!(killed(&script.update("a", &cni, state(TaskState::Starting))), []);
    script.now = script.now.after(LIMIT);
    is_asked(&mut script, &cni);
    assert_eq!(killed(&script.update("a", &cni, state(TaskState::Starting))), [cni]);
}

#[test]
fn a_service_that_is_fetched_for_ever_is_ended_and_one_that_runs_never() {
    let (mut script, proxy) = starting(TaskType::EtcdProxy);
    script.now = script.now.after(LIMIT);
    is_asked(&mut script, &proxy);
    assert_eq!(killed(&script.update("a", &proxy, state(TaskState::Starting))), std::slice::from_ref(&proxy));
    // It came up all the same.
    script.reports("a", &proxy, not_ready());
    for _ in 0..3 {
        assert_eq!(killed(&script.wait(LIMIT)), []);
        assert_eq!(killed(&script.update("a", &proxy, not_ready())), []);
    }
    assert_eq!(killed(&script.update("a", &proxy, ready())), []);
}
