//! Agents whose domain is not known.

use super::*;

#[test]
fn agents_without_a_domain_are_told_of_where_the_operator_limits_domains() {
    let settings = rollout(|rollout| {
        (rollout.max_per_domain, rollout.domain_attribute) = (Some(1), Some("rak".into()));
    });
    let mut script = Script::with_agents(settings, &["a", "b"]);
    let found = script.core.view().preflight;
    let expected = "rollout.max-per-domain = 1 does not hold on 2 of 2 agents, a:5051 among them: they have no attribute 'rak' \
                    (rollout.domain-attribute)";
    assert_eq!((found.len(), found[0].check, found[0].severity), (1, "rollout.max-per-domain", "warning"));
    assert_eq!(found[0].text, expected);
    let with =
        |host: &str| Agent { attributes: vec!["rak:1".to_owned()], ..agent(host, &format!("S-{host}")) };
    script.send(Input::Agents(vec![with("a"), agent("b", "S-b")]));
    let found = script.core.view().preflight;
    assert!(found[0].text.contains("on 1 of 2 agents, b:5051 among them"), "{found:?}");
    script.send(Input::Agents(vec![with("a"), with("b")]));
    assert_eq!(script.core.view().preflight, []);
}

#[test]
fn where_no_attribute_is_named_a_region_and_zone_are_missed_and_without_a_limit_nothing_is() {
    let limited = rollout(|rollout| rollout.max_per_domain = Some(2));
    let found = Script::with_agents(limited, &["a"]).core.view().preflight;
    let expected = "rollout.max-per-domain = 2 does not hold on 1 of 1 agents, a:5051 among them: Mesos tells no region and zone of \
                    them, and rollout.domain-attribute is not given";
    assert_eq!(found[0].text, expected);
    assert_eq!(Script::with_agents(rollout(|_| ()), &["a"]).core.view().preflight, []);
}
