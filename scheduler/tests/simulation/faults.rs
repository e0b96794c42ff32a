//! What goes wrong, and when: a plan that a seed determines.

use std::time::Duration;

use fake_master::{End, Faults, Random};

use crate::wire::Fuse;

/// What goes wrong. Indices are of schedulers and of hosts, and taken modulo how many there are.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A scheduler dies, and is started again soon.
    Crash(usize),
    /// It dies after some more requests: at the boundary of any frame, commit or call.
    Fuse(usize, Fuse),
    /// It stands still: SIGSTOP, a machine that swaps, a virtual machine that moves.
    Freeze(usize, Duration),
    /// The leading master dies; another one is elected later.
    MasterDies(Duration),
    /// Nothing passes between schedulers and master.
    MasterAway(Duration),
    /// Calls and events are lost, doubled, late, overtaken; streams break.
    Network(Box<Faults>, Duration),
    /// No packet passes between an agent and the master.
    Partition(usize, Duration),
    /// An agent's process is away; its tasks go on.
    Stop(usize, Duration),
    /// A host loses its power; it may be for ever.
    PowerOff(usize, Option<Duration>),
    /// A host is built anew.
    Rebuild(usize, Duration),
    /// One more agent.
    Join,
    /// An operator drains an agent, and reactivates it later.
    Drain(usize, Duration),
    /// An operator deactivates an agent, and reactivates it later.
    Deactivate(usize, Duration),
    /// A task ends by itself.
    TaskEnds(usize, usize, End),
    /// A task's check fails for a while.
    CheckFails(usize, usize, Duration),
    /// Tasks that are launched meanwhile fail more often than not.
    TasksFail(Duration),
    /// etcd does not answer, or not in time.
    EtcdAway(Duration),
    /// etcd takes up to this long for everything.
    EtcdSlow(Duration, Duration),
    /// Requests to etcd, and its answers, are lost: in thousandths.
    EtcdLossy(u32, Duration),
    /// etcd is out of space.
    EtcdFull(Duration),
    /// A backup of etcd is made.
    EtcdSnapshot,
    /// etcd is restored from its last backup.
    EtcdRestore,
}

/// The names of all faults, for people.
pub const NAMES: &str = "scheduler: crash at any moment, crash after any request (sent or not), frozen past its lease; \
    master: dies and another is elected, unreachable; network: calls and events lost, doubled, late, reordered, answers \
    lost, streams broken; agents: partitioned, stopped, without power (also \
    for ever), rebuilt, joining, drained, deactivated; tasks: failing, killed, checks that fail; etcd: away, slow, \
    losing requests and answers, out of space, restored from a backup";

/// What goes wrong within `time`.
pub fn plan(random: &mut Random, time: Duration, restores: bool) -> Vec<(Duration, Fault)> {
    let number = 3 + random.below(18);
    let mut plan: Vec<(Duration, Fault)> =
        (0..number).map(|_| (random.between(Duration::ZERO, time), fault(random))).collect();
    if restores {
        let at = random.between(time / 4, time);
        plan.push((random.between(Duration::ZERO, at), Fault::EtcdSnapshot));
        plan.push((at, Fault::EtcdRestore));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn seconds(random: &mut Random, from: u64, to: u64) -> Duration {
    random.between(Duration::from_secs(from), Duration::from_secs(to))
}

fn fault(random: &mut Random) -> Fault {
    let which = usize::try_from(random.below(64)).unwrap();
    let task = usize::try_from(random.below(4)).unwrap();
    match random.below(26) {
        0 | 1 => Fault::Crash(which),
        2..=4 => {
            let requests = random.below(25);
            Fault::Fuse(which, Fuse { requests, goes_out: random.chance(500) })
        }
        5 | 6 => Fault::Freeze(which, seconds(random, 1, 40)),
        7 => Fault::MasterDies(seconds(random, 1, 40)),
        8 => Fault::MasterAway(seconds(random, 1, 120)),
        9 | 10 => Fault::Network(Box::new(network(random)), seconds(random, 5, 60)),
        11 => Fault::Partition(which, seconds(random, 1, 150)),
        12 => Fault::Stop(which, seconds(random, 1, 150)),
        13 => {
            let back = random.chance(700).then(|| seconds(random, 5, 150));
            Fault::PowerOff(which, back)
        }
        14 => Fault::Rebuild(which, seconds(random, 5, 60)),
        15 => Fault::Join,
        16 => Fault::Drain(which, seconds(random, 5, 60)),
        17 => Fault::Deactivate(which, seconds(random, 5, 60)),
        18 => {
            let end = match random.below(4) {
                0 => End::Signal("Killed".to_owned()),
                1 => End::Code(0),
                _ => End::Code(69),
            };
            Fault::TaskEnds(which, task, end)
        }
        19 => Fault::CheckFails(which, task, seconds(random, 1, 60)),
        20 => Fault::TasksFail(seconds(random, 5, 60)),
        21 | 22 => Fault::EtcdAway(seconds(random, 1, 40)),
        23 => Fault::EtcdSlow(seconds(random, 1, 4), seconds(random, 5, 60)),
        24 => {
            let permille = u32::try_from(random.below(400)).unwrap();
            Fault::EtcdLossy(permille, seconds(random, 5, 60))
        }
        _ => Fault::EtcdFull(seconds(random, 5, 60)),
    }
}

fn network(random: &mut Random) -> Faults {
    let mut some =
        |most: u64| if random.chance(500) { u32::try_from(random.below(most)).unwrap() } else { 0 };
    let mut faults = Faults {
        call_loss: some(100),
        answer_loss: some(100),
        call_doubles: some(100),
        call_delays: some(500),
        event_loss: some(100),
        event_doubles: some(200),
        event_delays: some(500),
        event_reorders: some(200),
        stream_breaks: some(50),
        ..Faults::default()
    };
    faults.delay = random.between(Duration::from_millis(5), Duration::from_secs(5));
    faults
}
