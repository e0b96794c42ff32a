//! Windows that close while a rollout is under way, on a clock that the test sets.

use super::*;

/// Milliseconds since 1970 of a time of the first of January 1970.
fn at(hour: u64, minute: u64) -> Timestamp {
    Timestamp((hour * 60 + minute) * 60 * 1000)
}

#[test]
fn a_window_that_closes_in_the_middle_lets_those_finish_that_have_begun_and_the_next_one_the_others() {
    let settings = rollout(|rollout| {
        rollout.strategy = RolloutStrategy::Serial;
        rollout.windows = "daily 22:00-22:05".parse().unwrap();
    });
    let hosts = ["a", "b"];
    let mut script = installed(&settings, &hosts);
    script.now = at(21, 59);
    script.restart_with(changed(settings, &[NODE], 2));
    script.resumes(&hosts);
    script.tells(&hosts);
    let held = |script: &Script| script.core.view().rollout.held.unwrap_or_default();
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Waiting));
    assert!(held(&script).contains("again at 1970-01-01T22:00:00"), "{}", held(&script));
    script.wait(Duration::from_mins(1));
    assert_eq!(script.under_way(), ["a:5051"]);

    // When it closes, the first agent has got as far as its fetch.
    let old = script.task("a", NODE);
    script.reaches("a", TaskType::Prefetch);
    script.wait(Duration::from_mins(5));
    assert_eq!(script.under_way(), ["a:5051"]);
    assert_ne!(script.update_status(), Status::Waiting);
    script.failed("a", &old, "Command terminated with signal Terminated");
    script.reaches("a", NODE);
    script.wait(STABLE);
    assert_eq!((script.under_way(), script.update_status()), (vec![], Status::Waiting));
    assert_eq!(script.target("a", NODE), "version 2 of calico-node");
    assert!(held(&script).contains("again at 1970-01-02T22:00:00"), "{}", held(&script));
    script.declines("b");
    script.now = at(24 + 21, 58);
    script.wait(Duration::from_mins(1));
    assert_eq!(script.under_way(), [""; 0]);
    script.wait(Duration::from_mins(1));
    script.replaces_node("b");
    assert_eq!(script.update_status(), Status::Complete);
}
