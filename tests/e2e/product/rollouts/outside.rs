//! A rollout as it is seen from outside: in what the master says of each task, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cluster::Cluster;

use crate::history::{self, Task};

/// How often it looks: readiness that lasts for `rollout.stability` is seen.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks at the master until it is ended.
#[derive(Debug)]
pub struct Outside {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeMap<String, Seen>>>,
    /// The tasks that there were before.
    before: Vec<String>,
}

/// A task, and each moment at which the master has learned something of it while it ran: that it runs, and what its check
/// says.
#[derive(Debug, Clone)]
struct Seen {
    task: Task,
    news: Vec<f64>,
}

/// What a rollout did on one agent, in seconds since 1970.
#[derive(Debug, Clone)]
pub struct Span {
    /// When the first task of the rollout began there.
    pub begin: f64,
    /// When the new service had been ready for long enough.
    pub end: f64,
}

impl Outside {
    pub fn start(cluster: &Cluster) -> Self {
        let masters = cluster.master_urls();
        let look = move || history::look(&masters).and_then(|master| master.framework);
        let before = look().unwrap().tasks.into_iter().map(|task| task.id).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut all = BTreeMap::new();
                loop {
                    let last = stop.load(Ordering::Relaxed);
                    look()
                        .into_iter()
                        .flat_map(|framework| framework.tasks)
                        .for_each(|task| see(&mut all, task));
                    if last {
                        return all;
                    }
                    thread::sleep(PAUSE);
                }
            }
        });
        Self { stop, thread: Some(thread), before }
    }

    /// What was done on each agent to replace its `service`, in the order in which they began; nothing was done twice.
    pub fn replaced(mut self, service: &str, stability: Duration) -> Vec<Span> {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.thread.take().unwrap().join().unwrap();
        let mut agents: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for seen in all.values().filter(|seen| !self.before.contains(&seen.task.id)) {
            agents.entry(&seen.task.agent).or_default().push(seen);
        }
        let mut spans: Vec<Span> = agents
            .into_iter()
            .map(|(agent, new)| {
                let mut names: Vec<&str> = new.iter().map(|seen| &*seen.task.name).collect();
                names.sort_unstable();
                assert_eq!(names, [service, "prefetch"], "on {agent}: {new:#?}");
                let is_old = |seen: &&Seen| {
                    let task = &seen.task;
                    task.agent == agent
                        && task.name == service
                        && self.before.contains(&task.id)
                        && task.ended()
                };
                let old: Vec<&Seen> = all.values().filter(is_old).collect();
                let ended = old.iter().map(|seen| seen.task.span().1).fold(f64::NEG_INFINITY, f64::max);
                let begin = new.iter().map(|seen| seen.task.span().0).fold(f64::INFINITY, f64::min);
                let successor = new.iter().find(|seen| seen.task.name == service).unwrap();
                let ready = successor.lasting(2.0 * stability.as_secs_f64());
                assert!(begin < ended && ended < ready, "first fetched, then ended, then launched: {new:#?}");
                Span { begin, end: ready + stability.as_secs_f64() }
            })
            .collect();
        spans.sort_by(|a, b| a.begin.total_cmp(&b.begin));
        spans
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn see(all: &mut BTreeMap<String, Seen>, task: Task) {
    let running = task.since("TASK_RUNNING");
    let seen = all.entry(task.id.clone()).or_insert_with(|| Seen { task: task.clone(), news: Vec::new() });
    seen.task = task;
    // Of several statuses with one state the master keeps the last.
    seen.news.extend(running.filter(|at| seen.news.last() != Some(at)));
}

impl Seen {
    /// The first news after which there were none for so many seconds: that it is ready, unless that takes longer.
    fn lasting(&self, seconds: f64) -> f64 {
        let pairs = self.news.windows(2).find(|pair| pair[1] - pair[0] > seconds);
        pairs.map_or_else(|| *self.news.last().unwrap(), |pair| pair[0])
    }
}

/// On how many agents something was under way at the same time.
pub fn most_at_a_time(spans: &[Span]) -> usize {
    let at = |moment: f64| spans.iter().filter(|span| span.begin <= moment && moment < span.end).count();
    spans.iter().map(|span| at(span.begin)).max().unwrap_or_default()
}

/// How long a rollout takes in seconds when its first agent is the canary, so much is waited after that, and so many
/// places are filled without a pause, each for as long as the agent took.
pub fn ideal(took: &[f64], soak: f64, places: usize) -> f64 {
    let (canary, rest) = took.split_first().unwrap();
    let mut free = vec![canary + soak; places];
    for took in rest {
        let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        *next += took;
    }
    free.into_iter().fold(0.0, f64::max)
}
