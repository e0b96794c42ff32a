//! Agents that have no turn, for somebody has other plans for them.

use super::*;

#[test]
fn an_agent_that_drains_has_no_turn_before_it_is_back() {
    let settings = rollout(|rollout| rollout.strategy = RolloutStrategy::Serial);
    let mut script = installed(&settings, &["a", "b"]);
    script.restart_with(changed(settings, &[NODE], 2));
    script.subscribed();
    let drains = Agent { standing: Standing::Draining { since: None }, ..agent("a", "S-a") };
    script.send(Input::Agents(vec![drains, agent("b", "S-b")]));
    script.tells(&["a", "b"]);
    script.replaces_node("b");
    script.wait(SOAK);
    assert_eq!(script.under_way(), [""; 0]);
    script.agents(&["a", "b"]);
    script.replaces_node("a");
}
