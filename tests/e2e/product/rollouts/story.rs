//! The cluster of a story about rollouts, and what its operator does and reads.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cluster::marathon::Scheduler;
use cluster::{Cluster, Host};
use serde_json::Value;

use super::commands;
use crate::wait;

/// How long a rollout may take; a busy machine is given its time.
pub const ROLLOUT: Duration = Duration::from_secs(150);
const ALIVE: Duration = Duration::from_secs(20);

pub struct Story<'c> {
    pub cluster: &'c Cluster,
    pub hosts: Vec<Host<'c>>,
    pub scheduler: Scheduler<'c>,
    /// What has happened: a scheduler that keeps its state in a file loses what it told last when it is killed.
    told: RefCell<Vec<Event>>,
    began: Instant,
}

/// One thing that happened, as `/v1/history` has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub what: String,
    pub agent: String,
    pub text: String,
    /// In seconds since 1970.
    pub at: f64,
}

impl<'c> Story<'c> {
    pub fn new(cluster: &'c Cluster, hosts: Vec<Host<'c>>, scheduler: Scheduler<'c>) -> Self {
        Self { cluster, hosts, scheduler, told: RefCell::default(), began: Instant::now() }
    }

    /// Says how long it has taken so far.
    pub fn act(&self, begins: &str) {
        eprintln!("{:6.1} s  {begins}", self.began.elapsed().as_secs_f64());
    }

    /// `/v1/rollout`, as soon as it answers.
    pub fn rollout(&self) -> Value {
        self.until("the rollout", ALIVE, |_| true)
    }

    /// `/v1/rollout` when it is as it should be.
    pub fn until(&self, what: &str, limit: Duration, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait(what, limit, || {
                last = self.scheduler.api().get("/v1/rollout").ok().filter(|(status, _)| *status == 200)?.1;
                is_so(&last).then(|| last.clone())
            })
        }));
        seen.unwrap_or_else(|_| {
            let plan = self.scheduler.api().get("/v1/plans/update");
            panic!("{what}: {last}\n{plan:?}\n{}", self.scheduler.process().log().unwrap())
        })
    }

    /// Waits until rollout `number` is complete.
    pub fn completes(&self, number: u64) {
        self.until(&format!("rollout {number}"), ROLLOUT, |rollout| {
            rollout["number"] == number && rollout["stage"] == "complete"
        });
        let (status, plan) = self.update();
        assert_eq!((status, &plan["status"]), (200, &"COMPLETE".into()), "{plan}");
    }

    /// The plan `update`, and the status code with which it came.
    pub fn update(&self) -> (u16, Value) {
        self.scheduler.api().get("/v1/plans/update").unwrap()
    }

    /// The scheduler dies, and another one goes on.
    pub fn crash(&mut self) {
        self.reconfigure(&[]);
    }

    /// The scheduler is started again with other options.
    pub fn reconfigure(&mut self, changes: &[(&str, &str)]) {
        self.listen();
        self.scheduler.process().kill().unwrap();
        self.scheduler.restart_with(changes).unwrap();
        self.scheduler.api().wait_alive(ALIVE).unwrap();
    }

    /// A command that must be carried out.
    pub fn order(&self, what: &str) {
        commands::order(self.cluster, &self.scheduler, what);
    }

    /// Hears what has happened since it did last.
    fn listen(&self) {
        let (_, history) = self.scheduler.api().get("/v1/history").unwrap_or_default();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let events = history.as_array().into_iter().flatten().map(|entry| Event {
            what: text(entry, "what"),
            agent: text(entry, "agent"),
            text: text(entry, "text"),
            at: Duration::from_millis(entry["at"].as_u64().unwrap()).as_secs_f64(),
        });
        let mut told = self.told.borrow_mut();
        let new: Vec<Event> = events.filter(|event| !told.contains(event)).collect();
        told.extend(new);
    }

    /// What has happened since rollout `number` began.
    pub fn events(&self, number: u64) -> Vec<Event> {
        self.listen();
        let begins = format!("rollout {number} begins");
        self.told.borrow().iter().skip_while(|event| !event.text.starts_with(&begins)).cloned().collect()
    }

    /// The agents of the events of one kind, in their order.
    pub fn agents(&self, number: u64, what: &str) -> Vec<String> {
        let events = self.events(number).into_iter().filter(|event| event.what == what);
        events.map(|event| event.agent).collect()
    }

    /// The agent's address, as our API names it.
    pub fn agent(&self, host: usize) -> String {
        format!("{}:5051", self.hosts[host].address())
    }
}

/// In seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
