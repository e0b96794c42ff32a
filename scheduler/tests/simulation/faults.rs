//! What goes wrong, and when: a plan that a seed determines.

use std::time::Duration;

use fake_master::{End, Faults, Random};

use crate::simulation::Case;
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
    /// A host gets another address.
    Move(usize, Duration),
    /// Two hosts get each other's addresses.
    Swap(usize, usize, Duration),
    /// So many of 1000 hosts lose their power at the same moment, and have it again at the same moment.
    RackOff(u32, Duration),
    /// One more agent.
    Join,
    /// An operator drains an agent, and reactivates it later.
    Drain(usize, Duration),
    /// An operator deactivates an agent, and reactivates it later.
    Deactivate(usize, Duration),
    /// What the CNI install has put on a host vanishes.
    Wipe(usize),
    /// A host goes down for maintenance in a while, as its offers say: from when on, and for how long.
    Maintenance(usize, Duration, Duration),
    /// A task ends by itself.
    TaskEnds(usize, usize, End),
    /// A task's check fails for a while.
    CheckFails(usize, usize, Duration),
    /// Tasks that are launched meanwhile fail more often than not.
    TasksFail(Duration),
    /// Tasks that are launched meanwhile end with what an operator must mend: exit status 77, 78 or 79.
    TasksHold(Duration),
    /// What all services need is away: none is ready, and so many of 1000 die.
    Outage(u32, Duration),
    /// A scheduler's wall clock is set, by so many milliseconds.
    ClockJumps(usize, i64),
    /// etcd does not answer, or not in time.
    EtcdAway(Duration),
    /// etcd takes up to this long for everything.
    EtcdSlow(Duration, Duration),
    /// Requests to etcd, and its answers, are lost: in thousandths.
    EtcdLossy(u32, Duration),
    /// etcd is out of space.
    EtcdFull(Duration),
    /// A backup of the store is made.
    Snapshot,
    /// The store is restored from its last backup.
    Restore,
    /// The machine of the schedulers loses its power.
    PowerFails,
    /// Its disk is full.
    DiskFull(Duration),
}

/// The names of all faults, for people.
pub const NAMES: &str = "scheduler: crash at any moment, crash after any request (sent or not), frozen past its lease, \
    its clock set forwards or back; master: dies and another is elected, unreachable; network: calls and events lost, \
    doubled, late, reordered, answers lost, streams broken, messages to and from agents lost; agents: partitioned, \
    stopped, without power (also for ever, also many at once), rebuilt, joining, drained, deactivated, near maintenance, \
    moved, swapped; hosts that lose their plugins; \
    tasks: failing, killed, held for an operator, checks that fail, all of them at once; etcd: away, slow, losing requests \
    and answers, out of space, restored from a backup; file: crash and loss of power at any operation of the disk, full \
    disk, restored";

/// What goes wrong within `time`.
pub fn plan(random: &mut Random, time: Duration, case: Case) -> Vec<(Duration, Fault)> {
    let mut plan = Vec::new();
    let number = if case.many { random.below(6) } else { 3 + random.below(18) };
    for _ in 0..number {
        let at = random.between(Duration::ZERO, time);
        let fault = if case.many { fault_of_few(random) } else { fault(random) };
        plan.push((at, if case.file { of_a_file(fault) } else { fault }));
    }
    if case.many {
        plan.push(of_many(random, time));
    }
    if case.restores || case.file && random.chance(100) {
        let at = random.between(time / 4, time);
        plan.push((random.between(Duration::ZERO, at), Fault::Snapshot));
        plan.push((at, Fault::Restore));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// What befalls many agents at once, when everything is there.
pub fn of_many(random: &mut Random, time: Duration) -> (Duration, Fault) {
    let at = random.between(time / 3, time / 2);
    let part = 300 + u32::try_from(random.below(700)).unwrap();
    let lasts = seconds(random, 20, 150);
    (at, if random.chance(650) { Fault::Outage(part, lasts) } else { Fault::RackOff(part, lasts) })
}

/// What can be wrong with a disk, in place of what can be wrong with etcd.
fn of_a_file(fault: Fault) -> Fault {
    match fault {
        Fault::EtcdAway(_) | Fault::EtcdSlow(..) => Fault::PowerFails,
        Fault::EtcdFull(time) => Fault::DiskFull(time),
        Fault::EtcdLossy(permille, _) => {
            Fault::Fuse(0, Fuse { requests: u64::from(permille % 25), goes_out: permille.is_multiple_of(2) })
        }
        other => other,
    }
}

/// What leaves the agents alone.
fn fault_of_few(random: &mut Random) -> Fault {
    let which = usize::try_from(random.below(64)).unwrap();
    match random.below(9) {
        0 => Fault::Crash(which),
        1 | 2 => Fault::Fuse(which, Fuse { requests: random.below(60), goes_out: random.chance(500) }),
        3 => Fault::Freeze(which, seconds(random, 1, 40)),
        4 => Fault::MasterDies(seconds(random, 1, 40)),
        5 => Fault::MasterAway(seconds(random, 1, 60)),
        6 => Fault::EtcdAway(seconds(random, 1, 40)),
        7 => Fault::EtcdSlow(seconds(random, 1, 4), seconds(random, 5, 60)),
        _ => Fault::TaskEnds(which, usize::try_from(random.below(2)).unwrap(), End::Code(69)),
    }
}

fn seconds(random: &mut Random, from: u64, to: u64) -> Duration {
    random.between(Duration::from_secs(from), Duration::from_secs(to))
}

fn fault(random: &mut Random) -> Fault {
    let which = usize::try_from(random.below(64)).unwrap();
    let task = usize::try_from(random.below(4)).unwrap();
    match random.below(37) {
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
                2 => End::Code(75),
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
        25 => Fault::EtcdFull(seconds(random, 5, 60)),
        26 | 27 => Fault::Move(which, seconds(random, 1, 60)),
        28 => Fault::Swap(which, which / 8, seconds(random, 1, 60)),
        29 => {
            let part = 300 + u32::try_from(random.below(700)).unwrap();
            Fault::RackOff(part, seconds(random, 5, 120))
        }
        30 => Fault::TasksHold(seconds(random, 5, 30)),
        31 => {
            let part = u32::try_from(random.below(1000)).unwrap();
            Fault::Outage(part, seconds(random, 5, 90))
        }
        32 | 33 => Fault::Wipe(which),
        34 => Fault::Maintenance(which, seconds(random, 0, 5400), seconds(random, 5, 120)),
        _ => {
            let far = random.between(Duration::from_secs(1), Duration::from_hours(3)) / [1, 100][which % 2];
            let far = i64::try_from(far.as_millis()).unwrap();
            Fault::ClockJumps(which, if random.chance(500) { far } else { -far })
        }
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
        agent_loss: some(100),
        ..Faults::default()
    };
    faults.delay = random.between(Duration::from_millis(5), Duration::from_secs(5));
    faults
}

/// What goes wrong in a rollout, in place of what would forbid to say how that must end. Windows are what a wall clock
/// shows: it may be set where there are none.
pub fn of_a_rollout(fault: Fault, clocks_jump: bool) -> Fault {
    match fault {
        Fault::Move(which, time) | Fault::Swap(which, _, time) => Fault::Rebuild(which, time),
        Fault::TasksHold(time) => Fault::TasksFail(time),
        Fault::ClockJumps(which, far) if !clocks_jump => {
            Fault::Fuse(which, Fuse { requests: far.unsigned_abs() % 25, goes_out: far % 2 == 0 })
        }
        Fault::Snapshot | Fault::Restore => Fault::Crash(0),
        other => other,
    }
}
