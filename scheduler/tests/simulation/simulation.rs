//! One cluster's life: a master, its hosts, an etcd, one or two schedulers, and what goes wrong.
//!
//! Time goes from one thing that happens to the next. A scheduler's process runs until then by its own clock, or until
//! it asks something of others, which takes time to arrive. Nothing else connects it with anything.

mod ending;
mod rolling;
mod troubles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_scheduler::core::{Selector, Settings, Share, TaskType};
use calico_scheduler::lead::{Ended, Program};
use calico_scheduler::state::StoreError;
use fake_master::{AgentRef, AgentSpec, CallId, End, Happening, Random, Script, World};
use mesos_v1::master::{self, call};
use mesos_v1::scheduler::{self, Event};
use tokio::sync::{mpsc, oneshot};

use crate::checks::{Checks, Rollouts, Sender, may_restart, only_looks};
use crate::disk::Disk;
use crate::etcd::{self, Etcd};
use crate::faults::Fault;
use crate::process::{Answer, Place, Process};
use crate::rollouts::{self, Bad};
use crate::stored::Stored;
use crate::trace::Trace;
use crate::wire::{Posted, Reply, Request, Skew};

pub use rolling::Outcome;

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

/// What happens to tasks that are launched.
#[derive(Default)]
struct Mood {
    fail: AtomicBool,
    hold: AtomicBool,
    outage: AtomicBool,
    /// Nothing needs a restart.
    rolls: AtomicBool,
    /// Agents whose host has lost its CNI plugins.
    wiped: Mutex<BTreeSet<String>>,
    /// Agents on which something has failed, or is never ready, because it is bad.
    bad: Mutex<BTreeSet<String>>,
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
    /// A life with rollouts.
    pub fn rolling(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(!seed);
        let schedulers = if random.chance(300) { 2 } else { 1 };
        let adjust = |settings: Settings| Settings {
            max_recoveries: Share::Percent(100),
            mass_failure: Share::Percent(100),
            verify_interval: Some(Duration::from_mins(1)),
            backoff_max: Duration::from_secs(30),
            reconcile_interval: Duration::from_mins(2),
            recovery_timeout: Duration::from_mins(1),
            away_counts: Duration::from_mins(2),
            ..settings
        };
        let programs = rollouts::configurations(&mut random, adjust);
        let mut simulation =
            Self::new(seed, Case { schedulers, rolls: true, ..Case::ONE }, programs[0].clone(), trace);
        let configurations = programs.iter().map(|program| program.settings.clone());
        simulation.checks.rollouts = Some(Rollouts::new(configurations.collect()));
        simulation.mood.rolls.store(true, Ordering::Relaxed);
        simulation.programs = programs;
        simulation
    }

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
        world.set_scripts(move |task, random| script(task, random, &of_tasks));
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

    /// A request begins its way: when it arrives.
    fn posted(&mut self, origin: Origin, posted: Posted) -> Duration {
        let Posted { at, request, reply } = posted;
        self.trace.line(at, || format!("{origin:?} asks {request:?}"));
        if let Request::Call { call, .. } | Request::Subscribe(call) = &request {
            let process = self.schedulers[origin.0].process.as_ref();
            let name = process.map(|process| process.name.clone()).unwrap_or_default();
            self.checks.acts(self.runs[&origin]);
            let stored = Stored::of(&self.place, &self.etcd);
            self.checks.call(Sender { name: &name, at }, call, stored, &self.world);
            if call.r#type() == scheduler::call::Type::Accept {
                (self.launched, self.look) = (self.now, self.now);
            }
        }
        let arrives = (at + self.latency(&request)).max(self.now);
        self.at(arrives, Due::Request(origin, request, reply));
        arrives
    }

    fn latency(&mut self, request: &Request) -> Duration {
        let usual = self.random.between(Duration::from_millis(1), Duration::from_millis(4));
        match request {
            Request::Etcd(_) => usual + self.random.between(Duration::ZERO, self.troubles.slow / 2),
            _ => usual,
        }
    }

    fn due(&mut self, due: Due) {
        match due {
            Due::Request(origin, request, reply) => self.arrived(origin, request, reply),
            Due::Reply(origin, sender, reply) => self.reply(origin, sender, reply),
            Due::Hangup(stream) => self.world.disconnect(&stream),
            Due::Fault(fault) => self.fault(fault),
            Due::End(ending) => self.end(ending),
            Due::Reconfigure(number) => self.reconfigure(number),
            Due::Command => self.operator_commands(),
        }
    }

    fn arrived(&mut self, origin: Origin, request: Request, reply: oneshot::Sender<Reply>) {
        match request {
            Request::Etcd(request) => self.etcd_request(origin, request, reply),
            Request::Hangup { stream } => {
                self.streams.remove(&stream);
                self.world.disconnect(&stream);
            }
            Request::LastWords(task) => {
                let words = self.random.chance(700).then(|| format!("the last words of {task}"));
                let late = self.random.between(Duration::from_millis(1), Duration::from_secs(2));
                self.at(self.now + late, Due::Reply(origin, reply, Reply::LastWords(words)));
            }
            Request::Agents => {
                let dead = self.world.operator(&master::Call {
                    r#type: Some(call::Type::GetHealth.into()),
                    ..Default::default()
                });
                if !self.master_away {
                    let agents = dead.is_ok().then(|| self.world.get_agents());
                    if let Some(agents) = &agents {
                        self.checks.listed(agents);
                    }
                    let late = self.random.between(Duration::from_millis(1), Duration::from_secs(1));
                    self.at(self.now + late, Due::Reply(origin, reply, Reply::Agents(agents)));
                }
            }
            // No packet of it arrives; the process gives it up some time.
            Request::Subscribe(_) | Request::Call { .. } if self.master_away => {}
            Request::Subscribe(call) => {
                let id = self.world.send(None, *call);
                self.calls.insert(id, (origin, true, reply));
            }
            Request::Call { stream, call } => {
                // Twice: as with a client that tries again. A launch cannot be: the second would be refused, and both
                // would be told to be of one task.
                if call.r#type() != scheduler::call::Type::Accept && self.random.chance(self.troubles.doubles)
                {
                    self.world.send(Some(&stream), (*call).clone());
                }
                let id = self.world.send(Some(&stream), *call);
                self.calls.insert(id, (origin, false, reply));
            }
        }
    }

    fn etcd_request(&mut self, origin: Origin, request: etcd::Request, reply: oneshot::Sender<Reply>) {
        if self.troubles.away {
            // Nobody answers, or nobody listens.
            if self.random.chance(500) {
                let refused = Reply::Etcd(Err(etcd::away("connection refused")));
                self.at(self.now + Duration::from_millis(1), Due::Reply(origin, reply, refused));
            }
            return;
        }
        if self.random.chance(self.troubles.loss) {
            return;
        }
        let answer = self.etcd.handle(self.now, request);
        self.checks.acts(self.runs[&origin]);
        self.checks.stored(self.now, Stored::of(&self.place, &self.etcd), &self.world);
        self.trace.line(self.now, || format!("etcd answers {origin:?} {answer:?}"));
        if !self.random.chance(self.troubles.loss) {
            let usual = self.random.between(Duration::from_millis(1), Duration::from_millis(4));
            let late = usual + self.random.between(Duration::ZERO, self.troubles.slow / 2);
            self.at(self.now + late, Due::Reply(origin, reply, Reply::Etcd(answer)));
        }
    }

    /// An answer reaches the process that asked, if it still lives.
    fn reply(&mut self, (number, incarnation): Origin, sender: oneshot::Sender<Reply>, reply: Reply) {
        let scheduler = &mut self.schedulers[number];
        if scheduler.incarnation == incarnation && scheduler.process.is_some() {
            self.trace.line(self.now, || format!("{:?} is told {reply:?}", (number, incarnation)));
            // It may wait no longer.
            let _ = sender.send(reply);
            scheduler.told = true;
        }
    }

    fn happening(&mut self, happening: Happening) {
        self.trace.line(self.now, || format!("{happening:?}"));
        match happening {
            Happening::Event { stream, event } => {
                if self.master_away {
                    return;
                }
                self.checks.event(&event, self.now);
                if let Some((origin, sender)) = self.streams.get(&stream) {
                    let _ = sender.send(*event);
                    self.schedulers[origin.0].told = true;
                }
            }
            Happening::Closed { stream } => {
                if let Some((origin, _)) = self.streams.remove(&stream) {
                    self.schedulers[origin.0].told = true;
                }
            }
            Happening::Answered { call, answer } => {
                let Some((origin, subscribes, reply)) = self.calls.remove(&call) else { return };
                let reply_with = match &answer.stream {
                    Some(stream) if subscribes => {
                        let (sender, receiver) = mpsc::unbounded_channel();
                        let (number, incarnation) = origin;
                        let lives = self.schedulers[number].process.is_some()
                            && self.schedulers[number].incarnation == incarnation;
                        if lives {
                            self.streams.insert(Arc::clone(stream), (origin, sender));
                        } else {
                            self.at(self.now, Due::Hangup(Arc::clone(stream)));
                        }
                        Reply::Subscribed(answer, receiver)
                    }
                    _ if subscribes => Reply::Unanswered,
                    _ => Reply::Answered(answer),
                };
                self.reply(origin, reply, reply_with);
            }
            Happening::Unanswered { call } => {
                if let Some((origin, _, reply)) = self.calls.remove(&call) {
                    self.reply(origin, reply, Reply::Unanswered);
                }
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

/// What a task does.
fn script(task: &mesos_v1::TaskInfo, random: &mut Random, mood: &Mood) -> Script {
    let start = random.between(Duration::from_millis(10), Duration::from_secs(3));
    let time = random.between(Duration::from_millis(10), Duration::from_secs(8));
    let service = task.check.is_some() || task.health_check.is_some();
    let is = |mood: &AtomicBool| mood.load(Ordering::Relaxed);
    if let Some(bad) = rollouts::is_bad(task) {
        mood.bad.lock().unwrap().insert(task.agent_id.value.clone());
        let end = match bad {
            Bad::Ends(end) => Some((time, end)),
            Bad::NeverReady => None,
        };
        return Script { start, ready: None, end, ..Script::default() };
    }
    let agent = &task.agent_id.value;
    let failure = if only_looks(task) {
        let vanished =
            task.name.starts_with(TaskType::Cni.name()) && mood.wiped.lock().unwrap().contains(agent);
        let troubled = is(&mood.fail) && random.chance(600);
        vanished.then_some(1).or(troubled.then_some(69)).map(End::Code)
    } else if is(&mood.hold) && !service && random.chance(400) {
        Some(End::Code(77 + i32::try_from(random.below(3)).unwrap()))
    } else if is(&mood.fail) && random.chance(600) {
        Some(match random.below(5) {
            0 => End::Signal("Killed".into()),
            1 => End::Code(75),
            _ => End::Code(69),
        })
    } else if task.name == TaskType::DockerClusterStore.name() {
        // Some hosts need a restart for it, and some cannot have it.
        let finds =
            if !is(&mood.rolls) && !may_restart(task) && random.chance(300) { Some(79) } else { None };
        finds.or(random.chance(50).then_some(80)).map(End::Code)
    } else {
        None
    };
    if task.name == TaskType::Cni.name() && failure.is_none() {
        mood.wiped.lock().unwrap().remove(agent);
    }
    let ready = if is(&mood.outage) { Duration::from_mins(5) } else { time };
    let ready = (service && failure.is_none()).then_some(ready);
    let end = failure.or((!service).then_some(End::Code(0))).map(|end| (time, end));
    Script { start, ready, end, ..Script::default() }
}
