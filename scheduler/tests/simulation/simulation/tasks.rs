//! What the hosts' tasks do.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use calico_scheduler::core::TaskType;
use fake_master::{End, Random, Script};
use mesos_v1::TaskInfo;

use crate::checks::{may_restart, only_looks};
use crate::rollouts::{self, Bad};

/// What happens to tasks that are launched.
#[derive(Default)]
pub(super) struct Mood {
    pub fail: AtomicBool,
    pub hold: AtomicBool,
    pub outage: AtomicBool,
    /// What needs a restart cannot have it: nothing does.
    pub no_restarts: AtomicBool,
    /// Agents whose host has lost its CNI plugins.
    pub wiped: Mutex<BTreeSet<String>>,
    /// Agents on which something has failed, or is never ready, because it is bad.
    pub bad: Mutex<BTreeSet<String>>,
}

/// What a task does.
pub(super) fn script(task: &TaskInfo, random: &mut Random, mood: &Mood) -> Script {
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
            if !is(&mood.no_restarts) && !may_restart(task) && random.chance(300) { Some(79) } else { None };
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
