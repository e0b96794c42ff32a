//! Changed configurations come to the agents of a real cluster: in order, at a rate, and not further when one fails. One
//! story, since its cluster is large: each act begins with all agents on one target.

mod commands;
mod outside;
mod story;

use std::time::Duration;

use cluster::probe::{Probe, ProbeHandle, ProbeTask};
use cluster::{Cluster, Host, Progress, Spec, product, proof, test_lock};
use serde_json::json;

use crate::docker::{COUNT, COUNTED, sh, workload};
use crate::history::{Framework, framework};
use crate::survival::{longest_pause, moments, read};
use crate::watch::Watch;
use crate::{INSTALL, deployed, wait};
use outside::{Outside, Span, ideal, most_at_a_time};
use story::{ROLLOUT, Story, now};

const STABILITY: Duration = Duration::from_secs(3);
const SOAK: Duration = Duration::from_secs(8);
/// The longest pause that a counter may make, in milliseconds: a busy machine makes some.
const PAUSE: u64 = 10_000;

#[test]
fn changes_come_to_agents_in_order_at_a_rate_and_stop_when_one_fails() {
    let lock = test_lock().unwrap();
    let spec = Spec { name: "e2e-roll".to_owned(), agents: 5, ..Spec::default() };
    let cluster = Cluster::up(&spec, &Progress::stderr()).unwrap();
    let options = json!({
        "rollout": {
            "stability": "3s", "canary-soak": "8s", "max-concurrent-agents": "2", "max-attempts": 2,
            "agent-timeout": "1m",
        },
    });
    let scheduler = product::install(&cluster, &product::with_docker(&options)).unwrap();
    let hosts = cluster.hosts().unwrap();
    for host in &hosts {
        workload(&cluster, host);
    }
    deployed(&scheduler, hosts.len());
    let mut story = Story::new(&cluster, hosts, scheduler);
    let probe = Probe::connect(&cluster.master_urls()[0]).unwrap();
    let counters = count(&story, &probe);
    commands::mistyped(&cluster, &story.scheduler);

    story.act("an upgrade");
    an_upgrade_survives_its_scheduler(&mut story);
    story.act("an image that is not there");
    let failed = an_image_that_is_not_there_halts_it(&mut story);
    story.act("an image that ends at once");
    an_image_that_ends_at_once_is_taken_back(&mut story, &failed);
    story.act("an image that works");
    an_image_that_works_follows_in_order(&mut story);
    story.act("a change that is not safe");
    a_change_that_is_not_safe_is_refused_and_what_dies_comes_back_as_it_was(&mut story);
    story.act("windows");
    a_changed_option_and_a_disabled_service_wait_for_their_window(&mut story);
    nothing_was_interrupted(&story, &counters);
    story.act("an agent that is lost");
    an_agent_that_is_lost_with_its_place_has_failed_in_the_end(&mut story);
    story.act("the end");
    proof::prove(&cluster, "calico", |proof| eprintln!("{proof}")).unwrap();
    drop(lock);
}

/// A task on each host that counts.
fn count(story: &Story<'_>, probe: &Probe) -> Vec<ProbeHandle> {
    let network = Some("calico".to_owned());
    let launch = |host: &Host<'_>| {
        let (hostname, command) = (host.address().to_string(), COUNT.to_owned());
        probe.launch(ProbeTask { hostname, command, network: network.clone(), ..ProbeTask::default() })
    };
    let counters: Vec<ProbeHandle> = story.hosts.iter().map(launch).collect();
    for (host, counter) in story.hosts.iter().zip(&counters) {
        counter.wait_running(INSTALL).unwrap();
        wait("the container to count", INSTALL, || (read(host, COUNTED).len() > 5).then_some(()));
    }
    counters
}

fn nothing_was_interrupted(story: &Story<'_>, counters: &[ProbeHandle]) {
    for (host, counter) in story.hosts.iter().zip(counters) {
        let container = longest_pause(&read(host, COUNTED));
        let counted = longest_pause(&moments(&counter.stdout().unwrap()));
        eprintln!("{}: longest pause of a container {container} ms, of a task {counted} ms", host.name());
        assert!(container < PAUSE && counted < PAUSE);
        assert_eq!(sh(host, "docker inspect -f '{{.RestartCount}} {{.State.Running}}' counter"), "0 true");
        counter.wait_running(Duration::ZERO).unwrap();
    }
}

type Moment = (&'static str, fn(&Story<'_>, &Framework, &serde_json::Value) -> bool);

fn ended(seen: &Framework, name: &str) -> usize {
    seen.tasks.iter().filter(|task| task.name == name && task.ended()).count()
}

/// The moments between the phases of a rollout.
const MOMENTS: [Moment; 6] = [
    ("the canary has its place", |_, _, rollout| rollout["under_way"] == 1),
    ("what the canary needs is there", |_, seen, _| ended(seen, "prefetch") > 0),
    ("the canary's old node has ended", |_, seen, _| ended(seen, "calico-node") > 0),
    ("the canary is done", |_, _, rollout| rollout["stage"] == "soak"),
    ("half of the pause is over", |story, _, _| {
        let events = story.events(2);
        let done = events.iter().find(|event| event.what == "canaries-done");
        done.is_some_and(|done| now() > done.at + SOAK.as_secs_f64() / 2.0)
    }),
    ("the others are half done", |story, _, rollout| {
        story.agents(2, "updated").len() > 2 && rollout["under_way"] != 0
    }),
];

/// The second rollout: another image of the node. Its scheduler is killed between all phases.
fn an_upgrade_survives_its_scheduler(story: &mut Story<'_>) {
    let watch = Watch::start(story.cluster, &story.scheduler);
    let outside = Outside::start(story.cluster);
    story.reconfigure(&[("CALICO_NODE_IMAGE", &story.cluster.next_node_image())]);
    for (what, reached) in MOMENTS {
        let rollout = story.until(what, ROLLOUT, |rollout| {
            rollout["number"] == 2 && reached(story, &framework(story.cluster), rollout)
        });
        eprintln!("killed when {what}: {rollout}");
        story.crash();
    }
    story.completes(2);
    watch.end_after_silence();
    let spans = outside.replaced("calico-node", STABILITY);
    in_order(story, &spans);
    for host in &story.hosts {
        let image = sh(host, "docker inspect -f '{{.Config.Image}}' calico-node");
        assert_eq!(image, story.cluster.next_node_image());
    }
    report(story, 2);
}

/// One canary, a pause, then two at a time.
fn in_order(story: &Story<'_>, spans: &[Span]) {
    assert_eq!(spans.len(), story.hosts.len(), "{spans:#?}");
    assert_eq!(most_at_a_time(spans), 2, "{spans:#?}");
    let pause = spans[1].begin - spans[0].end;
    assert!(pause >= SOAK.as_secs_f64(), "the others began {pause} s after the canary: {spans:#?}");
}

/// For how long each host had no node.
fn report(story: &Story<'_>, number: u64) {
    let events = story.events(number);
    for host in &story.hosts {
        let address = format!("{}:5051", host.address());
        let told = events.iter().find(|event| event.what == "replaced" && event.agent == address);
        let beats = longest_pause(&read(host, "/var/log/calico/heartbeat"));
        eprintln!(
            "{}: {}; the node's longest pause so far {beats} ms",
            host.name(),
            told.map_or("", |event| &event.text),
        );
    }
}

/// The third rollout: an image that no registry has. The agent that has failed with it.
fn an_image_that_is_not_there_halts_it(story: &mut Story<'_>) -> String {
    let before = framework(story.cluster);
    let wrong = story.cluster.node_image().replace("v3.14.0", "v9.9.9");
    story.reconfigure(&[("CALICO_NODE_IMAGE", &wrong)]);
    let rollout = story.until("the halt", ROLLOUT, |rollout| rollout["failed"][0].is_string());
    let canary = rollout["canaries"][0].as_str().unwrap().to_owned();
    assert_eq!((&rollout["failed"], &rollout["waiting"]), (&json!([canary]), &json!(4)), "{rollout}");
    let (status, plan) = wait("the reason", INSTALL, || {
        let (status, plan) = story.update();
        plan["errors"].to_string().contains("v9.9.9").then_some((status, plan))
    });
    assert_eq!((status, &plan["status"]), (417, &"ERROR".into()), "{plan}");
    let why = plan["errors"][0].as_str().unwrap();
    // What failed, how often, and the last it wrote.
    for part in [
        "halted: the canary",
        &canary,
        "prefetch failed 2 times",
        "status 69",
        "this registry does not have it",
    ] {
        assert!(why.contains(part), "'{part}' is not in: {why}");
    }
    eprintln!("halted: {why}");
    story.crash();
    assert_eq!(story.rollout()["failed"], json!([canary]));
    let after = framework(story.cluster);
    assert_eq!(before.running(), after.running(), "a service was ended or launched");
    let new = after.doing().filter(|task| before.tasks.iter().all(|old| old.id != task.id));
    let new: Vec<(&str, &str)> = new.map(|task| (&*task.agent, &*task.name)).collect();
    assert!(new.len() == 2 && new[0] == new[1] && new[0].1 == "prefetch", "{new:?}");
    canary
}

/// The fourth rollout: an image whose program ends at once. The fifth: its canary goes back to what it had.
fn an_image_that_ends_at_once_is_taken_back(story: &mut Story<'_>, failed: &str) {
    let before = framework(story.cluster);
    let broken = story.cluster.broken_node_image();
    story.reconfigure(&[("CALICO_NODE_IMAGE", &broken), ("CALICO_ROLLOUT_ON_FAILURE", "rollback")]);
    let rollout = story.until("the way back", ROLLOUT, |rollout| {
        rollout["number"] == 5 && rollout["stage"] == "rolled-back"
    });
    assert_eq!((&rollout["failed"], &rollout["waiting"]), (&json!([]), &json!(0)), "{rollout}");
    assert_eq!(
        story.agents(4, "update-begins")[0],
        failed,
        "what has failed goes first: nothing is lost there"
    );
    // Which agent, what failed, how often, and the last it wrote, which is read from its sandbox.
    let parts = [failed, "the canary", "calico-node failed 2 times", "rollout 4 was given up", "calicoctl"];
    let why = wait("all of the reason", ROLLOUT, || {
        let (status, plan) = story.update();
        let why = plan["errors"][0].as_str().unwrap_or_default().to_owned();
        assert_eq!(status, 417, "{plan}");
        parts.iter().all(|part| why.contains(part)).then_some(why)
    });
    eprintln!("given up: {why}");
    let after = framework(story.cluster);
    let new = after.doing().filter(|task| before.tasks.iter().all(|old| old.id != task.id));
    let agent = after.doing().find(|task| before.tasks.iter().all(|old| old.id != task.id));
    let agent = agent.unwrap().agent.clone();
    assert!(new.into_iter().all(|task| task.agent == agent), "another than the canary was touched");
    for host in &story.hosts {
        let image = sh(host, "docker inspect -f '{{.Config.Image}}' calico-node");
        assert_eq!(image, story.cluster.next_node_image(), "on {}", host.name());
    }
    // The same configuration is not begun anew.
    story.crash();
    assert_eq!((&story.rollout()["number"], &story.update().1["status"]), (&json!(5), &json!("ERROR")));
}

/// The sixth rollout: an image that works.
fn an_image_that_works_follows_in_order(story: &mut Story<'_>) {
    let outside = Outside::start(story.cluster);
    let image = story.cluster.node_image();
    story.reconfigure(&[("CALICO_NODE_IMAGE", &image), ("CALICO_ROLLOUT_ON_FAILURE", "halt")]);
    story.completes(6);
    let spans = outside.replaced("calico-node", STABILITY);
    in_order(story, &spans);
    report(story, 6);
    efficiency(story, &spans);
}

/// How long the sixth rollout took, beside what its limits allow.
fn efficiency(story: &Story<'_>, spans: &[Span]) {
    let events = story.events(6);
    let last = events.iter().rfind(|event| event.what == "updated").unwrap().at;
    let length = last - events[0].at;
    let work: Vec<f64> = spans.iter().map(|span| span.end - span.begin).collect();
    let times = |what| events.iter().filter(move |event| event.what == what);
    let held: Vec<f64> = times("update-begins")
        .map(|begin| times("updated").find(|done| done.agent == begin.agent).unwrap().at - begin.at)
        .collect();
    let soak = SOAK.as_secs_f64();
    let (by_places, by_tasks) = (ideal(&held, soak, 2), ideal(&work, soak, 2));
    eprintln!(
        "a rollout over 5 agents took {length:.1} s; ideal with the same places {by_places:.1} s (ratio {:.3}), with \
         the same tasks {by_tasks:.1} s (ratio {:.3})",
        length / by_places,
        length / by_tasks
    );
    assert!(length / by_places < 1.5, "{events:#?}");
}

/// Another name of the network, and another image with it: neither is followed.
fn a_change_that_is_not_safe_is_refused_and_what_dies_comes_back_as_it_was(story: &mut Story<'_>) {
    let before = framework(story.cluster);
    let image = story.cluster.next_node_image();
    story.reconfigure(&[("CALICO_NETWORK_NAME", "blue"), ("CALICO_NODE_IMAGE", &image)]);
    let rollout = story.until("the refusal", ROLLOUT, |rollout| rollout["refused"][0].is_string());
    assert_eq!((&rollout["number"], &rollout["waiting"]), (&json!(6), &json!(0)), "{rollout}");
    let (status, plan) = story.update();
    let why = plan["errors"].to_string();
    assert_eq!(status, 417, "{plan}");
    for part in
        ["network.name would change from 'calico' to 'blue'", "add network.name to rollout.allow-unsafe"]
    {
        assert!(why.contains(part), "'{part}' is not in: {why}");
    }
    let host = &story.hosts[2];
    sh(host, "docker kill calico-node");
    wait("another node", INSTALL, || {
        let after = framework(story.cluster);
        let mut new = after.doing().filter(|task| before.tasks.iter().all(|old| old.id != task.id));
        assert!(new.all(|task| task.name == "calico-node"), "{after:#?}");
        let running = "docker inspect -f '{{.State.Running}} {{.Config.Image}}' calico-node || true";
        (sh(host, running) == format!("true {}", story.cluster.node_image())).then_some(())
    });
    // What is set back was never left: it is no rollout.
    let image = story.cluster.node_image();
    story.reconfigure(&[("CALICO_NETWORK_NAME", "calico"), ("CALICO_NODE_IMAGE", &image)]);
    story.completes(6);
    deployed(&story.scheduler, 5);
}

/// A window of one minute, in two hours; and when it begins, as the API says that.
pub(crate) fn later() -> (String, String) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds since 1970")]
    let minute = (now() as u64 / 60 + 120) % (24 * 60);
    let time = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    (format!("daily {}-{}", time(minute), time(minute + 1)), format!("T{}:00", time(minute)))
}

/// The seventh rollout: a changed option of the network, and a service that is not wanted any more. No window is open, then
/// one is, then it is closed when some have begun, and opened again.
fn a_changed_option_and_a_disabled_service_wait_for_their_window(story: &mut Story<'_>) {
    let socket = "test -e /run/docker/plugins/calico.sock && echo there || echo gone";
    let container = "docker ps -aqf name=calico-libnetwork | wc -l";
    for host in &story.hosts {
        assert_eq!((sh(host, socket), sh(host, container)), ("there".to_owned(), "1".to_owned()));
    }
    let before = framework(story.cluster);
    let (closed, opens) = later();
    story.reconfigure(&[
        ("CALICO_NETWORK_MTU", "1400"),
        ("CALICO_LIBNETWORK_ENABLE", "false"),
        ("CALICO_ROLLOUT_UNDO_DISABLED", "true"),
        ("CALICO_ROLLOUT_STRATEGY", "parallel"),
        ("CALICO_ROLLOUT_WINDOWS", &closed),
    ]);
    let rollout = story.until("the closed window", ROLLOUT, |rollout| {
        rollout["number"] == 7 && rollout["waiting"] == 5 && rollout["held"].is_string()
    });
    let held = rollout["held"].as_str().unwrap();
    assert!(held.contains("rollout.windows") && held.contains(&opens), "{held}, not {opens}");
    assert_eq!(story.update().1["status"], "WAITING");
    assert_eq!(framework(story.cluster).tasks.len(), before.tasks.len(), "something has begun");

    story.reconfigure(&[("CALICO_ROLLOUT_WINDOWS", "daily 00:00-24:00")]);
    story.until("the first agents", ROLLOUT, |rollout| rollout["under_way"] == 2);
    story.reconfigure(&[("CALICO_ROLLOUT_WINDOWS", &closed)]);
    let rollout = story.until("the end of those that had begun", ROLLOUT, |rollout| {
        rollout["under_way"] == 0 && rollout["waiting"] != 0 && story.agents(7, "updated").len() > 1
    });
    let begun = story.agents(7, "update-begins").len();
    assert_eq!(
        (rollout["waiting"].as_u64(), story.agents(7, "updated").len()),
        (Some(5 - begun as u64), begun)
    );
    story.reconfigure(&[("CALICO_ROLLOUT_WINDOWS", "")]);
    story.completes(7);
    for host in &story.hosts {
        assert_eq!((sh(host, socket), sh(host, container)), ("gone".to_owned(), "0".to_owned()));
        let configured =
            "cat /etc/cni/net.d/*calico* /opt/mesosphere/etc/dcos/network/cni/*calico* 2>/dev/null";
        assert!(sh(host, &format!("{configured} || true")).contains("1400"), "the MTU on {}", host.name());
    }
}

/// The eighth rollout, on two agents, one at a time: the first one's power fails.
fn an_agent_that_is_lost_with_its_place_has_failed_in_the_end(story: &mut Story<'_>) {
    story.order("update/pause");
    let image = story.cluster.next_node_image();
    story.reconfigure(&[("CALICO_NODE_IMAGE", &image), ("CALICO_ROLLOUT_MAX_CONCURRENT_AGENTS", "1")]);
    story.until("the pause", ROLLOUT, |rollout| {
        rollout["number"] == 8
            && rollout["waiting"] == 5
            && rollout["held"].as_str().is_some_and(|held| held.contains("paused by an operator"))
    });
    for host in 2..5 {
        story.order(&format!("update/skip?phase=calico-node&step={}", story.agent(host)));
    }
    story.order("update/resume");
    story.until("a first agent", ROLLOUT, |rollout| rollout["under_way"] == 1);
    let lost = story.agents(8, "update-begins").remove(0);
    let host = story.hosts.iter().find(|host| lost.starts_with(&format!("{}:", host.address()))).unwrap();
    host.unplug().unwrap();
    let rollout = story.until("its failure", ROLLOUT, |rollout| {
        let failed = rollout["failed"][0].is_string();
        assert!(failed || rollout["under_way"] == 1, "its place is held until then: {rollout}");
        failed
    });
    let events = story.events(8);
    let at = |what: &str| events.iter().rfind(|event| event.what == what).unwrap().at;
    let held = at("update-failed") - at("update-begins");
    eprintln!("the place of an agent that was lost was held for {held:.1} s: {}", rollout["held"]);
    assert!(held >= 60.0 && story.agents(8, "update-begins") == [lost.clone()], "{events:#?}");
    let why = rollout["held"].as_str().unwrap();
    assert!(why.contains("halted") && why.contains(&lost) && why.contains("rollout.agent-timeout"), "{why}");
    assert_eq!(story.update().0, 417);

    host.power_on().unwrap();
    wait("the agent to be back", INSTALL, || {
        (story.scheduler.api().agent(&lost).ok()?.presence == "active").then_some(())
    });
    story.order(&format!("update/retry?step={lost}"));
    story.order("update/continue");
    story.completes(8);
    let mut begun = story.agents(8, "update-begins");
    assert_eq!((begun.len(), &begun[1]), (3, &lost));
    begun.sort_unstable();
    begun.dedup();
    let mut expected = vec![story.agent(0), story.agent(1)];
    expected.sort_unstable();
    assert_eq!(begun, expected, "those that were skipped did not begin");
    deployed(&story.scheduler, 5);
}
