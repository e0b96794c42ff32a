//! A life with rollouts: everything is installed, then operators want something else, and something else again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use calico_scheduler::core::{Command, Plan, Settings, Share, Status, TaskType, Verb, View, Windows};
use calico_scheduler::lead::Program;
use fake_master::Random;

use super::{Case, Due, Simulation};
use crate::checks::{Configuration, Rollouts, hosts};
use crate::faults::{self, Fault};
use crate::rollouts;
use crate::trace::Trace;

/// How a life has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Complete,
    SomeFailed,
    Halted,
    RolledBack,
    Refused,
}

impl Simulation {
    /// A life with rollouts, of many agents or of a few.
    pub fn rolling(seed: u64, many: bool, trace: Trace) -> Self {
        let mut random = Random::new(!seed);
        let schedulers = if random.chance(300) { 2 } else { 1 };
        let share = |random: &mut Random, percent| match random.below(3) {
            0 => Share::Percent(percent),
            1 => Share::Number(1),
            _ => Share::Number(2),
        };
        let max_recoveries = share(&mut random, if many { 10 } else { 100 });
        let mass_failure = Share::Percent(if many || random.chance(300) { 20 } else { 100 });
        let adjust = |settings: Settings| Settings {
            max_recoveries,
            mass_failure,
            verify_interval: Some(Duration::from_mins(1)),
            backoff_max: Duration::from_secs(30),
            reconcile_interval: Duration::from_mins(2),
            recovery_timeout: Duration::from_mins(1),
            away_counts: Duration::from_mins(2),
            ..settings
        };
        let (programs, configurations): (Vec<Program>, Vec<Configuration>) =
            rollouts::configurations(&mut random, adjust).into_iter().unzip();
        let file = random.chance(250);
        let case = Case { schedulers, rolls: true, file, many, ..Case::ONE };
        let mut simulation = Self::new(seed, case, programs[0].clone(), trace);
        let restart = programs[0].settings.specs.values().filter_map(|spec| spec.restart);
        let restarts = restart.into_iter().any(|restart| restart.allowed);
        simulation.mood.no_restarts.store(!restarts, Ordering::Relaxed);
        simulation.checks.rollouts = Some(Rollouts::new(configurations));
        (simulation.programs, simulation.case) = (programs, case);
        simulation
    }

    /// What goes wrong in `time`, at most `number` of it.
    fn goes_wrong(&mut self, time: Duration, number: u64) -> Vec<(Duration, Fault)> {
        let clocks_jump = self.program.settings.rollout.windows == Windows::default();
        let mut plan = faults::plan(&mut self.random, time, Case { many: false, ..self.case });
        // Not the earliest ones only.
        self.random.shuffle(&mut plan);
        plan.truncate(usize::try_from(number).unwrap());
        plan.into_iter().map(|(at, fault)| (at, faults::of_a_rollout(fault, clocks_jump))).collect()
    }

    /// A whole life.
    pub fn roll(&mut self) -> Outcome {
        let time = self.random.between(Duration::from_secs(20), Duration::from_mins(1));
        for (at, fault) in self.goes_wrong(time / 2, 3) {
            self.at(self.now + at, Due::Fault(fault));
        }
        self.run_until(self.now + time);
        self.mend();
        self.until("is installed", Self::missing);
        if let Some(rollouts) = &mut self.checks.rollouts {
            rollouts.restless = false;
        }
        let (lasts, changes) = rollouts::times(&mut self.random, self.programs.len());
        for (number, at) in changes.into_iter().enumerate() {
            self.at(self.now + at, Due::Reconfigure(number + 1));
        }
        let number = if self.random.chance(250) { 0 } else { self.random.below(12) };
        for (at, fault) in self.goes_wrong(lasts, number) {
            self.at(self.now + at, Due::Fault(fault));
        }
        if self.case.many {
            let (at, fault) = faults::of_many(&mut self.random, lasts);
            self.at(self.now + at, Due::Fault(fault));
        }
        let number = if self.random.chance(300) { 0 } else { self.random.below(10) };
        for _ in 0..number {
            let at = self.random.between(Duration::ZERO, lasts);
            self.at(self.now + at, Due::Command);
        }
        self.run_until(self.now + lasts);
        self.mend();
        let mut goes_on = self.random.chance(500);
        self.until("is rolled out", |simulation| simulation.rolls(&mut goes_on));
        self.outcome()
    }

    /// Lives on until nothing is missing.
    fn until(&mut self, what: &str, mut missing: impl FnMut(&mut Self) -> Option<String>) {
        // Most of it may be outside of windows, or one agent after the other.
        let limit = self.now + Duration::from_hours(3);
        while let Some(missing) = missing(self) {
            assert!(self.now < limit, "3 hours after everything was mended: {missing}");
            self.run_until(self.now + Duration::from_secs(2));
        }
        self.trace.line(self.now, || format!("everything {what}"));
    }

    /// The schedulers are started again with another configuration.
    pub(super) fn reconfigure(&mut self, number: usize) {
        self.trace.line(self.now, || format!("another configuration: {number}"));
        (0..self.schedulers.len()).for_each(|scheduler| self.kill(scheduler));
        self.configured = number;
        self.program = self.programs[number].clone();
    }

    /// An operator commands something, unless the last command has not been answered.
    pub(super) fn operator_commands(&mut self) {
        let Some(stored) = &self.checks.rollouts else { return };
        let agents: Vec<_> = stored.agents().map(|agent| agent.key.clone()).collect();
        let command = rollouts::command(&mut self.random, &agents);
        self.command(&command);
    }

    fn command(&mut self, command: &Command) {
        let waits = self.answer.as_ref().is_some_and(|answer| {
            // Whoever commands lets go of the answer when it dies.
            answer.lock().unwrap().is_none() && Arc::strong_count(answer) > 1
        });
        if waits {
            return;
        }
        self.trace.line(self.now, || format!("an operator commands {command:?}"));
        if matches!(command.verb, Verb::Start | Verb::Continue)
            && let Some(rollouts) = &mut self.checks.rollouts
        {
            rollouts.told_to_go_on = true;
        }
        if let Some(rollouts) = &mut self.checks.rollouts {
            rollouts.commanded(command.agent.as_ref(), self.now);
        }
        for scheduler in &mut self.schedulers {
            if let (Some(process), None) = (&mut scheduler.process, scheduler.frozen)
                && let Some(answer) = process.command(command.clone())
            {
                self.answer = Some(answer);
                scheduler.told = true;
                return;
            }
        }
    }

    /// What is still to be done in the rollout, if anything is; operators let it `go on` where they have held it.
    fn rolls(&mut self, goes_on: &mut bool) -> Option<String> {
        let rollouts = self.checks.rollouts.as_ref()?;
        let rollout = rollouts.cluster().rollout.clone();
        let of_plan = |plan, verb| Command { plan, verb, phase: None, agent: None };
        let resume = rollout.paused.first().map(|plan| of_plan(*plan, Verb::Resume));
        let start = rollout.stopped.then(|| of_plan(Plan::Update, Verb::Start));
        let and_on = (*goes_on && rollout.halted.is_some()).then(|| of_plan(Plan::Update, Verb::Continue));
        *goes_on &= and_on.is_none();
        if let Some(command) = resume.or(start).or(and_on) {
            let what = format!("{command:?}");
            self.command(&command);
            return Some(what);
        }
        let mut view = None;
        for scheduler in &mut self.schedulers {
            if let (Some(process), None) = (&mut scheduler.process, scheduler.frozen) {
                view = view.or(process.view());
            }
        }
        let Some(view) = view else { return Some("no scheduler leads".to_owned()) };
        self.unrolled(&view)
    }

    fn unrolled(&self, view: &View) -> Option<String> {
        let rollouts = self.checks.rollouts.as_ref()?;
        let rollout = &rollouts.cluster().rollout;
        let refused = !view.rollout.refused.is_empty();
        let wanted = self.wanted();
        let init = rollouts.cluster().tasks.get(&TaskType::ClusterInit);
        let target = &wanted.specs[&TaskType::ClusterInit].target;
        let is_ready = init.is_some_and(|it| it.phase.at_goal() && it.target.as_ref() == Some(target));
        let holding = rollouts.agents().find(|agent| agent.holds().is_some());
        // Where it has failed for the cluster, who has begun waits for that.
        if let Some(agent) = holding.filter(|_| is_ready || rollout.halted.is_none()) {
            return Some(format!("{} has its place", agent.key));
        }
        if !is_ready && rollout.halted.is_none() {
            return Some(format!("cluster-init has not {target}: {init:?}; {:?}", view.rollout));
        }
        let mut some_failed = false;
        for agent in self.world.get_agents().agents.iter().filter(|agent| agent.active) {
            let key = format!("{}:{}", agent.agent_info.hostname, agent.agent_info.port());
            let Some(record) = rollouts.agents().find(|record| *record.key.0 == *key) else {
                return Some(format!("{key} is not stored"));
            };
            let id = agent.agent_info.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
            if *record.id.0 != *id {
                return Some(format!("{key} is stored with another ID"));
            }
            if rollouts.has_failed(record) {
                some_failed = true;
                continue;
            }
            // It waits for an operator: so does one that was not healthy in time after a restart of ours.
            let given_up = record.disruption.as_ref().is_some_and(|disruption| disruption.failure.is_some());
            let bad = self.mood.bad.lock().unwrap().contains(id);
            if record.settled == 0 && (given_up || bad) {
                continue;
            }
            // What a host could not have before comes to it without a place, and may be bad.
            if bad && record.tasks.values().any(|task| task.phase.live().is_some() && !task.reached) {
                continue;
            }
            if rollout.halted.is_some() {
                continue;
            }
            if let Some(unfinished) = rollouts.unfinished(record, wanted) {
                let shown = view.agents.iter().find(|shown| *shown.agent.0 == *key);
                let shown = shown.map(|shown| (&shown.reason, &shown.rollout));
                return Some(format!("{unfinished}; shown: {shown:?}; {:?}; {rollout:?}", view.rollout));
            }
            let lives = |task: &str| hosts(&self.world).any(|(_, there, _)| there == task);
            let dead = record.live().find(|(task, _)| !lives(&task.0));
            if let Some((task, _)) = dead {
                return Some(format!("{task} does not live"));
            }
        }
        let shown = view.update.status;
        let failed_away = !view.rollout.failed.is_empty();
        let given_up = rollout.given_up.is_some();
        let good = match shown {
            Status::Error => some_failed || failed_away || refused || given_up || rollout.halted.is_some(),
            Status::Complete => !refused && !given_up && rollout.halted.is_none(),
            _ => false,
        };
        (!good).then(|| format!("the plan update is {shown:?}: {:?}", view.update.errors))
    }

    /// The configuration that is followed: the last one that was not refused.
    fn wanted(&self) -> &Settings {
        let stored = self.checks.rollouts.as_ref().map(|rollouts| &rollouts.cluster().rollout.targets);
        let follows = |program: &&Program| {
            let settings = &program.settings;
            let specs = settings.specs.iter().chain(&settings.rollout.undo);
            let targets: BTreeMap<_, _> = specs.map(|(t, spec)| (t, &spec.target)).collect();
            let stays = |(task_type, _): &(&TaskType, _)| **task_type != TaskType::Prefetch;
            let stored = stored.into_iter().flatten();
            stored.filter(|it| stays(it)).eq(targets.into_iter().filter(stays))
        };
        let followed = self.programs[..=self.configured].iter().rev().find(follows);
        &followed.unwrap_or(&self.program).settings
    }

    fn outcome(&self) -> Outcome {
        let Some(rollouts) = &self.checks.rollouts else { return Outcome::Complete };
        let rollout = &rollouts.cluster().rollout;
        let is_refused = rollout.guarded != self.program.settings.rollout.guarded;
        match () {
            () if rollout.halted.is_some() => Outcome::Halted,
            () if rollout.given_up.is_some() => Outcome::RolledBack,
            () if rollouts.agents().any(|agent| rollouts.has_failed(agent)) => Outcome::SomeFailed,
            () if is_refused => Outcome::Refused,
            () => Outcome::Complete,
        }
    }
}
