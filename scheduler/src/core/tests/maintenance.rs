//! Agents that go down for maintenance.

use std::time::Duration;

use super::script::{Script, declined, launch};
use super::*;

const HOUR: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_secs(10);

fn asks(script: &mut Script, id: &str, host: &str, unavailability: Unavailability) -> Frame {
    let agent = Some(AgentId::from(format!("S-{host}")));
    let offer = InverseOffer { id: id.into(), agent, unavailability };
    script.send(Input::Event(Event::InverseOffers(vec![offer])))
}

fn offered(script: &mut Script, host: &str, unavailability: Option<Unavailability>) -> Frame {
    let offer = Offer { unavailability, ..script.make_offer(host, plenty()) };
    script.send(Input::Event(Event::Offers(vec![offer])))
}

#[test]
fn inverse_offers_are_accepted_and_the_window_is_shown() {
    let mut script = Script::with_agents(settings(), &["a"]);
    script.install("a");
    let window = Unavailability { start: Timestamp(1_000_000), duration: Some(HOUR) };
    let frame = asks(&mut script, "i1", "a", window);
    assert_eq!(frame.effects, [Effect::AcceptInverse(vec!["i1".into()])]);
    let shown = "the agent goes down for maintenance from 1970-01-01T00:16:40Z until 1970-01-01T01:16:40Z";
    assert_eq!(script.agent_view("a").reason, shown);
    // Rescinded, and over.
    script.send(Input::Event(Event::RescindInverseOffer("i1".into())));
    assert_eq!(script.agent_view("a").reason, "");
    asks(&mut script, "i2", "a", window);
    script.send(Input::Event(Event::RescindInverseOffer("i1".into())));
    assert_eq!(script.agent_view("a").reason, shown, "another inverse offer was rescinded");
    script.wait(Duration::from_secs(3599));
    assert_eq!(script.agent_view("a").reason, shown);
    script.wait(Duration::from_secs(1));
    assert_eq!(script.agent_view("a").reason, "");
}

#[test]
fn nothing_new_starts_from_an_hour_before_until_it_is_over() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let node = script.install("a").pop().unwrap();
    let start = script.now.after(HOUR * 2);
    let window = Some(Unavailability { start, duration: Some(HOUR) });
    script.failed("a", &node, "killed");
    script.wait(Duration::from_secs(10));

    // It is far: a service that has died is launched again.
    let node = launch(&offered(&mut script, "a", window)).unwrap().task;
    script.failed("a", &node, "killed");
    script.wait(HOUR);
    let frame = offered(&mut script, "a", window);
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(SHORT)));
    assert!(script.agent_view("a").reason.starts_with("calico-node waits: the agent goes down"));
    script.wait(Duration::from_secs(2 * 3600 - 20));
    let frame = offered(&mut script, "a", window);
    assert_eq!((launch(&frame), declined(&frame)), (None, Some(SHORT)));
    script.wait(Duration::from_secs(20));
    script.launches("a", TaskType::CalicoNode);
}

#[test]
fn an_offer_without_a_window_says_that_there_is_none() {
    let mut script = Script::with_agents(settings(), &["a"]);
    let window = Unavailability { start: script.now, duration: None };
    asks(&mut script, "i1", "a", window);
    let frame = offered(&mut script, "a", Some(window));
    assert_eq!(launch(&frame), None);
    assert!(script.agent_view("a").reason.ends_with("Z on"), "{}", script.agent_view("a").reason);
    script.launches("a", TaskType::ClusterInit);
    assert_eq!(script.agent_view("a").reason, "etcd-proxy waits for an offer");
    // And a lost subscription forgets it: the next one tells.
    asks(&mut script, "i2", "a", window);
    script.send(Input::Disconnected);
    script.subscribed();
    assert_eq!(script.agent_view("a").reason, "etcd-proxy waits for an offer");
}
