//! Whose offers are asked for.

use std::time::Duration;

use super::script::Script;
use super::*;

const HOSTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Whose offers the frame asks for, when it says so, and whether the filters go.
fn wanted(frame: &Frame) -> (Option<String>, bool) {
    let constrained = frame.effects.iter().position(|effect| matches!(effect, Effect::Constrain(_)));
    let revived = frame.effects.iter().position(|effect| *effect == Effect::Revive);
    assert!(constrained.is_none_or(|at| revived.is_some_and(|revive| at < revive)), "{frame:?}");
    let hosts = constrained.map(|at| match &frame.effects[at] {
        Effect::Constrain(Some(hosts)) => hosts.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        _ => "all".to_owned(),
    });
    (hosts, revived.is_some())
}

fn of(hosts: &str) -> (Option<String>, bool) {
    (Some(hosts.to_owned()), true)
}

/// Everything is installed, by a master that takes constraints; the last task of each host.
fn installed(settings: Settings) -> (Script, Vec<TaskId>) {
    let mut script = Script::new(settings);
    script.send(Input::Event(Event::TakesConstraints));
    script.subscribed();
    script.agents(&HOSTS);
    let nodes = HOSTS.iter().map(|host| script.install(host).pop().unwrap()).collect();
    script.wait(Duration::from_mins(10));
    (script, nodes)
}

#[test]
fn one_freed_slot_of_many_asks_for_the_offers_of_its_host_alone() {
    let (mut script, nodes) = installed(settings());
    let frame = script.failed("b", &nodes[1], "killed");
    assert_eq!(wanted(&frame), of("b"));
    script.wait(Duration::from_secs(10));
    let node = script.reaches("b", TaskType::CalicoNode);

    // The next one is another host: no slot waits behind a list that leaves it out.
    let frame = script.failed("c", &nodes[2], "killed");
    assert_eq!(wanted(&frame), of("c"));
    script.wait(Duration::from_secs(10));
    let frame = script.failed("b", &node, "killed");
    assert_eq!(wanted(&frame), of("b,c"));
    // The same again: the list stands.
    script.wait(Duration::from_secs(10));
    let node = script.launches("b", TaskType::CalicoNode);
    assert_eq!(wanted(&script.failed("b", &node, "killed")), (None, false));
}

#[test]
fn many_that_wait_are_not_listed_nor_when_any_agent_will_do() {
    let (mut script, nodes) = installed(settings());
    for (host, node) in HOSTS.iter().zip(&nodes).take(3) {
        script.wait(Duration::from_secs(10));
        assert_ne!(wanted(&script.failed(host, node, "killed")), of("all"));
    }
    script.wait(Duration::from_secs(10));
    assert_eq!(wanted(&script.failed("d", &nodes[3], "killed")), of("all"), "four of six");

    let mut few = settings();
    few.most_constrained = 1;
    let (mut script, nodes) = installed(few);
    assert_eq!(wanted(&script.failed("a", &nodes[0], "killed")), of("a"));
    script.wait(Duration::from_secs(10));
    assert_eq!(wanted(&script.failed("b", &nodes[1], "killed")), of("all"), "more than are listed");
}

#[test]
fn an_agent_that_joins_is_not_left_out_and_one_beside_it_on_its_host_comes_too() {
    let (mut script, nodes) = installed(settings());
    script.failed("a", &nodes[0], "killed");
    script.wait(Duration::from_secs(10));
    let all: Vec<Agent> = HOSTS.iter().map(|host| agent(host, &format!("S-{host}"))).collect();
    let beside = Agent { key: "a:5052".into(), ..agent("a", "S-beside") };
    let known: Vec<Agent> = all.iter().cloned().chain([beside.clone()]).collect();
    assert_eq!(wanted(&script.send(Input::Agents(known))), (None, false), "the host is in the list");
    script.wait(Duration::from_secs(10));
    let joined = all.into_iter().chain([beside, agent("g", "S-g")]).collect();
    assert_eq!(wanted(&script.send(Input::Agents(joined))), of("a,g"));
}

#[test]
fn a_master_that_does_not_take_them_is_not_asked() {
    let (mut script, nodes) = installed(settings());
    script.failed("a", &nodes[0], "killed");
    script.wait(Duration::from_secs(10));
    script.send(Input::Disconnected);
    // An older one has taken over.
    let frame = script.subscribed();
    assert_eq!(wanted(&frame), (None, true));
    script.wait(Duration::from_secs(10));
    script.reaches("a", TaskType::CalicoNode);
    let frame = script.failed("b", &nodes[1], "killed");
    assert_eq!(wanted(&frame), (None, true));
}
