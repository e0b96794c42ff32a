//! One cluster's life: a master, its hosts, an etcd, one or two schedulers, and what goes wrong.
//!
//! Time goes from one thing that happens to the next. A scheduler's process runs until then by its own clock, or until
//! it asks something of others, which takes time to arrive. Nothing else connects it with anything.

mod ending;
mod requests;
mod rolling;
mod tasks;
mod troubles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use calico_scheduler::core::{Selector, Settings, Share};
use calico_scheduler::lead::{Ended, Program};
use calico_scheduler::state::StoreError;
use fake_master::{AgentRef, AgentSpec, CallId, Random, World};
use mesos_v1::scheduler::Event;
use tokio::sync::{mpsc, oneshot};

use crate::checks::Checks;
use crate::disk::Disk;
use crate::etcd::Etcd;
use crate::faults::Fault;
use crate::process::{Answer, Place, Process};
use crate::rollouts;
use crate::trace::Trace;
use crate::wire::{Reply, Request, Skew};

pub use rolling::Outcome;
use tasks::Mood;

/// The Unix time at which simulations begin.
const BEGIN: Duration = Duration::from_secs(1_700_000_000);
/// How far a process' clock may be behind while it has nothing to do.
pub const LAG: Duration = Duration::from_millis(50);

/// What is simulated.
#[expect(clippy::struct_excessive_bools, reason = "each says whether something happens")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub schedulers: usize,
    /// Whether etcd is restored from an older backup.
    pub restores: bool,
    /// Whether state is in a file, not in etcd.
    pub file: bool,
    /// Whether there are dozens of agents, many of which fail at the same time.
    pub many: bool,
    /// Whether operators want something else in the course of it.
    pub rolls: bool,
}

impl Case {
    pub const ONE: Self = Self { schedulers: 1, restores: false, file: false, many: false, rolls: false };
}

/// One scheduler, as something like Marathon keeps it.
struct Scheduler {
    process: Option<Process>,
    incarnation: u32,
    restart: Duration,
    frozen: Option<Duration>,
    /// It was told something that it has not seen yet.
    told: bool,
    /// How wrong its machine's clock is.
    skew: Skew,
}

/// Of a store.
#[derive(Clone)]
enum Backup {
    Etcd(Etcd),
    File(Vec<u8>),
}

/// What happens when its time has come.
enum Due {
    Request(Origin, Request, oneshot::Sender<Reply>),
    Reply(Origin, oneshot::Sender<Reply>, Reply),
    Hangup(Arc<str>),
    Fault(Fault),
    End(Ending),
    Reconfigure(usize),
    Command,
}

/// What no longer goes wrong.
enum Ending {
    MasterDead,
    MasterAway,
    Network { lossy: bool, agents: bool },
    Partition(AgentRef),
    Off(AgentRef),
    Operated(AgentRef),
    Maintained(AgentRef),
    Check(AgentRef, String),
    TasksFail,
    TasksHold,
    Outage,
    DiskFull,
    EtcdAway,
    EtcdSlow,
    EtcdLossy,
    EtcdFull,
}

/// Which process, of which scheduler.
type Origin = (usize, u32);

/// What is wrong with etcd, and with calls.
#[derive(Debug, Default)]
struct Troubles {
    /// Calls that reach the master twice, in thousandths.
    doubles: u32,
    away: bool,
    slow: Duration,
    loss: u32,
}

pub struct Simulation {
    random: Random,
    now: Duration,
    world: World,
    etcd: Etcd,
    troubles: Troubles,
    backup: Option<Backup>,
    master_away: bool,
    queue: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    schedulers: Vec<Scheduler>,
    /// Calls that the master has not answered.
    calls: BTreeMap<CallId, (Origin, bool, oneshot::Sender<Reply>)>,
    streams: BTreeMap<Arc<str>, (Origin, mpsc::UnboundedSender<Event>)>,
    checks: Checks,
    program: Program,
    case: Case,
    /// The configurations that operators want, one after the other, and which one it is now.
    programs: Vec<Program>,
    configured: usize,
    /// Which one a process has.
    runs: BTreeMap<Origin, usize>,
    /// To the last command of an operator.
    answer: Option<Answer>,
    place: Place,
    mood: Arc<Mood>,
    /// When hosts are looked at again.
    look: Duration,
    /// When something was launched last.
    launched: Duration,
    pub trace: Trace,
}

impl Simulation {
    pub fn new(seed: u64, case: Case, mut program: Program, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let settings = fake_master::Settings {
            reregister_timeout: Duration::from_mins(2),
            retry: (Duration::from_secs(10), Duration::from_mins(1)),
            ..fake_master::Settings::default()
        };
        let mut world = World::new(BEGIN, random.number(), settings);
        let mood = Arc::new(Mood::default());
        let of_tasks = Arc::clone(&mood);
        world.set_scripts(move |task, random| tasks::script(task, random, &of_tasks));
        let number = match case {
            Case { many: true, .. } => 20 + random.below(21),
            Case { rolls: true, .. } => 4 + random.below(7),
            _ => 2 + random.below(4),
        };
        let number = usize::try_from(number).unwrap();
        for (number, spec) in AgentSpec::many(number).enumerate() {
            world.add_agent(rollouts::housed(number, spec));
        }
        let share = |random: &mut Random, percent: u8| match random.below(3) {
            0 => Share::Percent(percent),
            1 => Share::Number(1),
            _ => Share::Number(2),
        };
        if !case.rolls {
            program.settings = Settings {
                max_recoveries: share(&mut random, if case.many { 10 } else { 100 }),
                mass_failure: Share::Percent(20),
                verify_interval: Some(Duration::from_mins(2)),
                backoff_max: Duration::from_secs(30),
                reconcile_interval: Duration::from_mins(2),
                recovery_timeout: Duration::from_mins(1),
                away_counts: Duration::from_mins(2),
                ..program.settings
            };
        }
        let mut checks = Checks::new(&program.settings);
        if !case.rolls && random.chance(300) {
            let name = world.spec(AgentRef::nth(0)).hostname.to_string();
            program.settings.exclude = vec![Selector(name.clone())];
            checks.excluded.insert(name);
        }
        let place = if case.file { Place::File(Disk::default()) } else { Place::Etcd };
        let scheduler = |_| Scheduler {
            process: None,
            incarnation: 0,
            restart: BEGIN + random.between(Duration::ZERO, Duration::from_secs(5)),
            frozen: None,
            told: false,
            skew: Skew::default(),
        };
        let schedulers = (0..case.schedulers).map(scheduler).collect();
        Self {
            random,
            now: BEGIN,
            world,
            etcd: Etcd::new(),
            troubles: Troubles::default(),
            backup: None,
            master_away: false,
            queue: BTreeMap::new(),
            sequence: 0,
            schedulers,
            calls: BTreeMap::new(),
            streams: BTreeMap::new(),
            checks,
            program,
            case,
            programs: Vec::new(),
            configured: 0,
            runs: BTreeMap::new(),
            answer: None,
            place,
            mood,
            look: BEGIN,
            launched: BEGIN,
            trace,
        }
    }

    /// A whole life: things go wrong, then nothing does any more, and all that should be there must be.
    pub fn run(&mut self, case: Case) {
        let least = Duration::from_mins(if case.many { 3 } else { 1 });
        let time = self.random.between(least, Duration::from_mins(5));
        for (at, fault) in crate::faults::plan(&mut self.random, time, case) {
            self.at(BEGIN + at, Due::Fault(fault));
        }
        self.run_until(BEGIN + time);
        self.mend();
        let limit = self.now + Duration::from_mins(30);
        while let Some(missing) = self.missing() {
            assert!(self.now < limit, "30 minutes after everything was mended: {missing}");
            self.run_until(self.now + Duration::from_secs(2));
        }
        self.trace.line(self.now, || "everything is there".to_owned());
    }

    fn at(&mut self, at: Duration, due: Due) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), due);
    }

    fn run_until(&mut self, end: Duration) {
        while self.now < end {
            self.step(end);
        }
    }

    /// On to the next thing that happens.
    fn step(&mut self, end: Duration) {
        let due = self.queue.keys().next().map(|(at, _)| *at);
        let lease = self.etcd.next_time().filter(|_| !self.troubles.away);
        let changes = self.schedulers.iter().filter_map(|scheduler| match scheduler.process {
            Some(_) => scheduler.frozen,
            None => Some(scheduler.restart),
        });
        let next = [due, lease, self.world.next_time()].into_iter().flatten().chain(changes).min();
        let mut next = next.unwrap_or(end).min(end).max(self.now);
        for number in 0..self.schedulers.len() {
            self.run_scheduler(number, &mut next);
        }
        self.now = self.now.max(next);
        if !self.troubles.away {
            self.etcd.advance(self.now);
        }
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let due = entry.remove();
            self.due(due);
        }
        for (_, happening) in self.world.advance(self.now) {
            self.happening(happening);
        }
        // Often while tasks are launched, and always often enough to see services.
        if self.look <= self.now {
            self.checks.alone(&self.world);
            let lately = self.launched + Duration::from_secs(8) > self.now;
            self.look = self.now + if lately { Duration::from_millis(5) } else { Duration::from_secs(1) };
        }
    }

    /// A scheduler runs until `next`, which what it asks may bring nearer.
    fn run_scheduler(&mut self, number: usize, next: &mut Duration) {
        let now = self.now;
        let scheduler = &mut self.schedulers[number];
        if scheduler.process.is_none() && scheduler.restart <= now {
            scheduler.incarnation += 1;
            let name = format!("scheduler {number}.{}", scheduler.incarnation);
            let random = Random::new(self.random.number());
            self.trace.line(now, || format!("{name} starts"));
            let skew = Skew::clone(&scheduler.skew);
            scheduler.process = Some(Process::start((now, skew), name, &self.program, &self.place, random));
            scheduler.frozen = None;
            scheduler.told = true;
            self.runs.insert((number, scheduler.incarnation), self.configured);
        }
        if let Some(until) = scheduler.frozen {
            if until > now {
                return;
            }
            scheduler.frozen = None;
            scheduler.told = true;
            if let Some(process) = &mut scheduler.process {
                process.thaw(now);
            }
        }
        loop {
            let scheduler = &mut self.schedulers[number];
            let Some(process) = &mut scheduler.process else { return };
            let told = std::mem::take(&mut scheduler.told);
            if !told && process.now() + LAG > *next {
                return;
            }
            let posted = process.run_until(*next);
            let origin = (number, scheduler.incarnation);
            self.kept(origin);
            for posted in posted {
                *next = (*next).min(self.posted(origin, posted));
            }
            let Some(process) = &mut self.schedulers[number].process else { return };
            let name = process.name.clone();
            if process.is_dead() {
                self.trace.line(now, || format!("{name} dies by its fuse"));
                self.kill(number);
                if self.random.chance(300) {
                    self.power_fails();
                }
            } else if let Some(exit) = process.exit() {
                self.trace.line(now, || format!("{name} ends: {exit}"));
                // Another one leads: that is for people to know. A restored etcd tells two of them that they lead, and a late
                // subscription is of one that led before.
                let expected = match &exit {
                    Ended::Store(StoreError::Locked { .. }) => true,
                    Ended::Store(error) => matches!(error, StoreError::Superseded { .. }),
                    Ended::Driver(ended) => {
                        let may_be_two = self.checks.restored || self.checks.calls_late;
                        may_be_two && ended.to_string().contains("Framework failed over")
                    }
                };
                assert!(expected, "{name} ends: {exit}");
                self.kill(number);
            }
        }
    }

    /// A process ends at once; its connections break.
    fn kill(&mut self, number: usize) {
        let scheduler = &mut self.schedulers[number];
        if scheduler.process.take().is_none() {
            return;
        }
        scheduler.frozen = None;
        scheduler.restart = self.now + self.random.between(Duration::from_secs(1), Duration::from_secs(20));
        let theirs = self.streams.iter().filter(|(_, (origin, _))| origin.0 == number);
        let theirs: Vec<Arc<str>> = theirs.map(|(stream, _)| Arc::clone(stream)).collect();
        for stream in theirs {
            self.streams.remove(&stream);
            self.at(self.now + Duration::from_millis(1), Due::Hangup(stream));
        }
    }
}
