//! Looks at a cluster all the time that a test does something to it, from outside: at the master, at the agents, and at
//! what our API says meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cluster::Cluster;
use cluster::api::{Agent, Api, Plan, Recovery};
use cluster::marathon::Scheduler;

use crate::history::{self, Listed, Master, Task};

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(250);
/// For how long the API may say what is no longer so, or not say what is so already: it learns of agents from a list that
/// is read every 2 s, and of the rest from the master. A busy machine is given its time.
const LAG: Duration = Duration::from_secs(20);
/// What is wrong when the API does not answer begins so.
const SILENT: &str = "the API does not answer";

/// One look.
#[derive(Debug)]
struct Look {
    /// The master that leads, if one does.
    master: Option<Master>,
    /// What each agent says of our tasks, by address; nothing of those that do not answer.
    agents: BTreeMap<String, Vec<Task>>,
    /// What our API says, or why it does not.
    api: Result<Said, String>,
}

/// What our API says.
#[derive(Debug)]
struct Said {
    status: u16,
    plan: Plan,
    agents: Vec<Agent>,
    recovery: Recovery,
}

/// A look at the cluster that goes on until it is ended.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Each task of ours, as it was last told of.
    tasks: BTreeMap<String, Task>,
    /// Those that had begun, and those that had ended, at the first look.
    at_first: (BTreeSet<String>, BTreeSet<String>),
    /// What is wrong since when, as long as it may still become right.
    doubts: BTreeMap<String, Instant>,
    /// What was wrong for too long.
    faults: BTreeSet<String>,
    looks: usize,
    api: usize,
}

impl Watch {
    /// Begins: there has been a first look when this returns.
    pub fn start(cluster: &Cluster, scheduler: &Scheduler<'_>) -> Self {
        Self::through(&cluster.master_urls(), cluster, scheduler)
    }

    /// The same where masters are asked otherwise than by anybody.
    pub fn through(masters: &[String], cluster: &Cluster, scheduler: &Scheduler<'_>) -> Self {
        let masters = masters.to_vec();
        let agents = cluster.hosts().unwrap().iter().map(|host| format!("{}:5051", host.address())).collect();
        let eyes = Eyes { masters, agents, api: scheduler.api().clone() };
        let stop = Arc::new(AtomicBool::new(false));
        let (begun, first) = mpsc::channel();
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Seen::default();
                while !stop.load(Ordering::Relaxed) {
                    seen.take(&eyes.look(), Instant::now());
                    // Nobody waits for the later ones.
                    let _ = begun.send(());
                    thread::sleep(PAUSE);
                }
                seen.take(&eyes.look(), Instant::now());
                seen
            }
        });
        first.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }

    /// Ends with a last look. Nothing may have been wrong.
    pub fn end(self) -> Seen {
        self.end_but(|_| false)
    }

    /// The same where the API had nothing to answer with for a while, but said nothing wrong either.
    pub fn end_after_silence(self) -> Seen {
        self.end_but(|fault| fault.starts_with(SILENT))
    }

    fn end_but(mut self, excused: impl Fn(&str) -> bool) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = self.thread.take().unwrap().join().unwrap();
        seen.faults.retain(|fault| !excused(fault));
        let twins = seen.twins();
        assert!(twins.is_empty(), "two of a kind at a time: {twins:#?}");
        assert!(seen.faults.is_empty(), "what the API said was not so: {:#?}", seen.faults);
        eprintln!(
            "watched: {} looks, {} answers of the API, {} tasks",
            seen.looks,
            seen.api,
            seen.tasks.len()
        );
        seen
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    /// The tasks that were launched while it was watched.
    pub fn launched(&self) -> Vec<&Task> {
        self.doing().filter(|task| !self.at_first.0.contains(&task.id)).collect()
    }

    /// The tasks that ended while it was watched.
    pub fn ended(&self) -> Vec<&Task> {
        self.doing().filter(|task| task.ended() && !self.at_first.1.contains(&task.id)).collect()
    }

    fn doing(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(|task| !task.only_looks())
    }

    fn take(&mut self, look: &Look, now: Instant) {
        let by_master = look.master.iter().filter_map(|master| master.framework.as_ref());
        let told = by_master.flat_map(|framework| &framework.tasks).chain(look.agents.values().flatten());
        for task in told {
            let known = self.tasks.get(&task.id);
            // What has ended stays so, whoever has not heard of it yet.
            if known.is_none_or(|known| !known.ended()) {
                self.tasks.insert(task.id.clone(), task.clone());
            }
        }
        if self.looks == 0 {
            self.at_first.0 = self.tasks.keys().cloned().collect();
            self.at_first.1 = self.ended().into_iter().map(|task| task.id.clone()).collect();
        }
        self.looks += 1;
        self.api += usize::from(look.api.is_ok());
        let wrong = wrong(look);
        self.doubts.retain(|doubt, _| wrong.contains(doubt));
        for doubt in wrong {
            let since = *self.doubts.entry(doubt.clone()).or_insert(now);
            if now - since > LAG {
                self.faults.insert(doubt);
            }
        }
    }

    /// Tasks of one type that ran on one agent at the same time.
    fn twins(&self) -> Vec<[&Task; 2]> {
        let mut twins = Vec::new();
        for (number, one) in self.tasks.values().enumerate() {
            for other in self.tasks.values().skip(number + 1) {
                let (a, b) = (one.span(), other.span());
                if (&one.agent, &one.name) == (&other.agent, &other.name) && a.0 < b.1 && b.0 < a.1 {
                    twins.push([one, other]);
                }
            }
        }
        twins
    }
}

/// Where it looks.
#[derive(Debug)]
struct Eyes {
    masters: Vec<String>,
    agents: Vec<String>,
    api: Api,
}

impl Eyes {
    fn look(&self) -> Look {
        let answer = || {
            let (status, plan) = self.api.deploy()?;
            Ok(Said { status, plan, agents: self.api.agents()?, recovery: self.api.recovery()? })
        };
        let told = self.agents.iter().filter_map(|agent| Some((agent.clone(), history::on_agent(agent)?)));
        Look {
            master: history::look(&self.masters),
            agents: told.collect(),
            api: answer().map_err(|error: cluster::Error| error.to_string()),
        }
    }
}

/// All that the API says and is not so, or does not say and is so, in one look. Times differ: it may be so a moment
/// later.
fn wrong(look: &Look) -> BTreeSet<String> {
    let Said { status, plan, agents, recovery } = match &look.api {
        Ok(said) => said,
        Err(error) => return [format!("{SILENT}: {error}")].into(),
    };
    let mut wrong = BTreeSet::new();
    for agent in agents {
        if let Some(master) = &look.master {
            let listed = master.agents.iter().find(|listed| listed.id == agent.agent_id);
            wrong.extend(wrong_presence(agent, listed));
        }
        wrong.extend(agent.tasks.iter().filter_map(|task| wrong_task(look, agent, task)));
    }
    if let Some(master) = &look.master {
        for listed in master.agents.iter().filter(|listed| listed.active) {
            if !agents.iter().any(|agent| agent.agent_id == listed.id) {
                wrong.insert(format!("the API does not show {} ({})", listed.address, listed.id));
            }
        }
        let services = master.framework.iter().flat_map(|framework| &framework.tasks);
        for task in services.filter(|task| task.state == "TASK_RUNNING" && !is_install(&task.name)) {
            let mut shown = agents.iter().flat_map(|agent| &agent.tasks);
            if !shown.any(|shown| shown.task_id.as_ref() == Some(&task.id)) {
                wrong.insert(format!("{} runs, and the API does not show it", task.id));
            }
        }
    }
    // What is down or comes back is not complete, and there are no more recoveries than there may be.
    if recovery.under_way > recovery.at_most {
        wrong.insert(format!("more recoveries than there may be: {recovery:?}"));
    }
    let is_complete = |agent: &Agent| agent.presence == "active" && agent.status == "COMPLETE";
    if recovery.agents_down + recovery.under_way > 0 && agents.iter().all(is_complete) {
        wrong.insert(format!("every agent is complete, and {recovery:?}"));
    }
    let open = |agent: &&Agent| agent.presence == "active" && agent.status != "COMPLETE";
    if let Some(agent) = agents.iter().find(open).filter(|_| *status == 200) {
        wrong.insert(format!("the plan is complete, and {} is {}", agent.agent, agent.status));
    }
    let complete = !agents.iter().any(|agent| open(&agent));
    if *status == 202 && complete && plan.phases.iter().all(|phase| phase.status == "COMPLETE") {
        wrong.insert("all is complete, and the plan is not".to_owned());
    }
    wrong
}

fn is_install(name: &str) -> bool {
    let step = name.strip_suffix("-check").unwrap_or(name);
    ["cluster-init", "docker-cluster-store", "cni", "docker-network"].contains(&step)
}

/// Whether an agent is there.
fn wrong_presence(agent: &Agent, listed: Option<&Listed>) -> Option<String> {
    let so = match (agent.presence.as_str(), listed) {
        ("active", Some(listed)) => listed.active,
        ("draining", Some(listed)) => listed.drain.is_some(),
        ("deactivated", Some(listed)) => listed.deactivated && listed.drain.is_none(),
        ("absent", Some(listed)) => !listed.active && !listed.deactivated,
        ("absent", None) => true,
        // Not yet, with a master that was elected just now.
        ("recovering", listed) => listed.is_none_or(|listed| !listed.active),
        // What an operator or another agent decides, and not the master.
        (presence, _) => !["active", "draining", "deactivated"].contains(&presence),
    };
    (!so).then(|| format!("{} is said to be {}: {listed:?}", agent.agent, agent.presence))
}

/// What a task does, by its agent's own word where it answers, else by the master's.
fn wrong_task(look: &Look, agent: &Agent, task: &cluster::api::Task) -> Option<String> {
    let id = task.task_id.as_ref()?;
    let by_master = look.master.as_ref().and_then(|master| master.framework.as_ref());
    let by_master = by_master.and_then(|framework| framework.tasks.iter().find(|task| task.id == *id));
    let by_agent = look.agents.get(&agent.agent).map(|tasks| tasks.iter().find(|task| task.id == *id));
    let said = |what: &str| Some(format!("{id} is said to be {} ({}), and {what}", task.status, task.reason));
    match task.status.as_str() {
        "COMPLETE" => match (by_agent, by_master) {
            (Some(None), _) => said("its agent does not know it"),
            (Some(Some(seen)), _) | (None, Some(seen)) if seen.state != "TASK_RUNNING" => said(&seen.state),
            (_, Some(seen)) if seen.state == "TASK_UNREACHABLE" => said(&seen.state),
            (Some(Some(seen)), _) if seen.healthy == Some(false) => said("is not healthy"),
            _ => None,
        },
        "STARTED" if task.reason.starts_with("unreachable") => match by_master {
            Some(seen) if seen.state != "TASK_UNREACHABLE" => said(&seen.state),
            _ => None,
        },
        // Under way: it has not ended, and neither master nor agent has long forgotten it.
        "STARTING" | "STARTED" => match (by_agent, by_master) {
            (Some(Some(seen)), _) | (None | Some(None), Some(seen)) if seen.ended() => said(&seen.state),
            (Some(None), None) if look.master.is_some() => said("nobody knows it"),
            _ => None,
        },
        // What has failed, waits or is not wanted has no task that is alive.
        status => said(&format!("a step that is {status} has no task")),
    }
}
