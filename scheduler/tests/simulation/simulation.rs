//! One cluster's life: a master, its hosts, an etcd, one or two schedulers, and what goes wrong.
//!
//! Time goes from one thing that happens to the next. A scheduler's process runs until then by its own clock, or until
//! it asks something of others, which takes time to arrive. Nothing else connects it with anything.

mod ending;
mod troubles;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use calico_scheduler::core::{Selector, Settings};
use calico_scheduler::state::StoreError;
use calico_scheduler::tasks::TaskTypes;
use fake_master::{AgentRef, AgentSpec, CallId, End, Happening, Random, Script, World};
use mesos_v1::master::{self, call};
use mesos_v1::scheduler::{self, Event};
use tokio::sync::{mpsc, oneshot};

use crate::checks::Checks;
use crate::etcd::{self, Etcd};
use crate::faults::Fault;
use crate::process::{Exit, Process, Program};
use crate::trace::Trace;
use crate::wire::{Posted, Reply, Request};

/// The Unix time at which simulations begin.
const BEGIN: Duration = Duration::from_secs(1_700_000_000);
/// How far a process' clock may be behind while it has nothing to do.
const LAG: Duration = Duration::from_millis(50);

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub schedulers: usize,
    /// Whether etcd is restored from an older backup.
    pub restores: bool,
}

/// One scheduler, as something like Marathon keeps it.
struct Scheduler {
    process: Option<Process>,
    incarnation: u32,
    restart: Duration,
    frozen: Option<Duration>,
    /// It was told something that it has not seen yet.
    told: bool,
}

/// What happens when its time has come.
enum Due {
    Request(Origin, Request, oneshot::Sender<Reply>),
    Reply(Origin, oneshot::Sender<Reply>, Reply),
    Hangup(Arc<str>),
    Fault(Fault),
    End(Ending),
}

/// What no longer goes wrong.
enum Ending {
    MasterDead,
    MasterAway,
    Network { lossy: bool },
    Partition(AgentRef),
    Off(AgentRef),
    Operated(AgentRef),
    Check(AgentRef, String),
    TasksFail,
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
    backup: Option<Etcd>,
    master_away: bool,
    queue: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
    schedulers: Vec<Scheduler>,
    /// Calls that the master has not answered.
    calls: BTreeMap<CallId, (Origin, bool, oneshot::Sender<Reply>)>,
    streams: BTreeMap<Arc<str>, (Origin, mpsc::UnboundedSender<Event>)>,
    checks: Checks,
    program: Program,
    tasks_fail: Arc<std::sync::atomic::AtomicBool>,
    pub trace: Trace,
}

impl Simulation {
    pub fn new(seed: u64, case: Case, tasks: Arc<TaskTypes>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let settings = fake_master::Settings {
            reregister_timeout: Duration::from_mins(2),
            retry: (Duration::from_secs(10), Duration::from_mins(1)),
            ..fake_master::Settings::default()
        };
        let mut world = World::new(BEGIN, random.number(), settings);
        let tasks_fail = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let failing = Arc::clone(&tasks_fail);
        world.set_scripts(move |task, random| {
            let fails = failing.load(std::sync::atomic::Ordering::Relaxed) && random.chance(600);
            script(task, random, fails)
        });
        let number = 2 + usize::try_from(random.below(4)).unwrap();
        for spec in AgentSpec::many(number) {
            world.add_agent(spec);
        }
        let mut checks = Checks::default();
        let mut settings = Settings {
            backoff_max: Duration::from_secs(30),
            reconcile_interval: Duration::from_mins(2),
            recovery_timeout: Duration::from_mins(1),
            away_counts: Duration::from_mins(2),
            ..Settings::new(tasks.specs())
        };
        if random.chance(300) {
            let name = world.spec(AgentRef::nth(0)).hostname.to_string();
            settings.exclude = vec![Selector(name.clone())];
            checks.excluded.insert(name);
        }
        let program = Program { settings, tasks, inventory_interval: Duration::from_mins(1) };
        let scheduler = |_| Scheduler {
            process: None,
            incarnation: 0,
            restart: BEGIN + random.between(Duration::ZERO, Duration::from_secs(5)),
            frozen: None,
            told: false,
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
            tasks_fail,
            trace,
        }
    }

    /// A whole life: things go wrong, then nothing does any more, and all that should be there must be.
    pub fn run(&mut self, case: Case) {
        let time = self.random.between(Duration::from_mins(1), Duration::from_mins(5));
        for (at, fault) in crate::faults::plan(&mut self.random, time, case.restores) {
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
        self.checks.alone(&self.world);
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
            scheduler.process = Some(Process::start(now, name, &self.program, random));
            scheduler.frozen = None;
            scheduler.told = true;
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
            } else if let Some(exit) = process.exit() {
                self.trace.line(now, || format!("{name} ends: {exit}"));
                // Another one leads: that is for people to know. A restored etcd tells two of them that they lead.
                let expected = match &exit {
                    Exit::Store(error) => matches!(error, StoreError::Superseded { .. }),
                    Exit::Ended(ended) => {
                        self.checks.restored && ended.to_string().contains("Framework failed over")
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
            self.checks.call(&name, call, &self.etcd, &self.world);
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
                self.checks.event(&event);
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
fn script(task: &mesos_v1::TaskInfo, random: &mut Random, fails: bool) -> Script {
    let start = random.between(Duration::from_millis(10), Duration::from_secs(3));
    let time = random.between(Duration::from_millis(10), Duration::from_secs(8));
    let service = task.check.is_some() || task.health_check.is_some();
    let may_restart =
        task.command.as_ref().is_some_and(|c| c.arguments.iter().any(|a| a == "--allow-restart"));
    let store = task.name == "docker-cluster-store" && !fails;
    let end = match (service, fails) {
        (false, _) if store && !may_restart && random.chance(300) => Some((time, End::Code(79))),
        (false, _) if store && random.chance(50) => Some((time, End::Code(80))),
        (_, true) => {
            Some((time, if random.chance(200) { End::Signal("Killed".into()) } else { End::Code(69) }))
        }
        (false, false) => Some((time, End::Code(0))),
        (true, false) => None,
    };
    let ready = (service && !fails).then_some(time);
    Script { start, ready, end, ..Script::default() }
}
