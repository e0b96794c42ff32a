//! What the world knows better than the scheduler: how many recoveries and disruptions there are, and who was away for
//! how long.

use super::*;

impl World {
    /// The scheduler is about to get this list.
    pub(super) fn note_listed(&mut self, agents: &[Agent]) {
        self.listed = agents.iter().map(|agent| (agent.id.clone(), agent.standing)).collect();
        for record in self.stored.agents.values() {
            self.unlisted.entry(record.id.clone()).or_insert(self.now);
        }
        self.unlisted.retain(|id, _| !self.listed.contains_key(id));
    }

    /// A record is removed only when its agent was away for long enough, or lost its address, and in neither case
    /// while a task of ours may run there.
    pub(super) fn check_forgotten(&mut self, before: &[Arc<AgentRecord>]) {
        let kept: BTreeSet<&AgentId> = self.stored.agents.values().map(|record| &record.id).collect();
        for record in before.iter().filter(|record| !kept.contains(&record.id)) {
            let away = self.unlisted.get(&record.id).map(|since| self.now.since(*since));
            // The list comes a millisecond after it was noted.
            let long_enough = away.is_some_and(|away| away > self.settings.forget_after);
            let displaced = self.stored.agents.contains_key(&record.key);
            assert!(record.aside || long_enough || displaced, "{} is forgotten after {away:?}", record.key);
            let running = self
                .tasks
                .values()
                .find(|task| task.alive && task.agent == record.id && task.task_type.scope() == Scope::Agent);
            assert!(running.is_none(), "{} is forgotten, and runs {running:?}", record.key);
        }
        let known_ready = std::mem::take(&mut self.known_ready);
        let stays = known_ready.into_iter().filter(|(id, _)| kept.contains(id));
        self.known_ready = stays.collect();
    }

    /// The scheduler knows that this service was ready. What ends while it takes the agent for draining is drained.
    pub(super) fn is_known_ready(&mut self, agent: AgentId, task_type: TaskType) {
        let drains = |standing: Option<&Standing>| matches!(standing, Some(Standing::Draining { .. }));
        let host = self.host(&agent).map(|host| &host.standing);
        if !drains(host) && !drains(self.listed.get(&agent)) {
            self.known_ready.insert((agent, task_type));
        }
    }

    /// No more services are launched again at the same time than may be: each counts until it is ready, has ended, or
    /// has taken too long.
    pub(super) fn check_recoveries(&mut self, agent: &AgentId, task_type: TaskType, task: &TaskId) {
        let (now, timeout) = (self.now, self.settings.recovery_timeout);
        self.recovering.retain(|_, at| at.after(timeout) > now);
        // What we may have restarted ourselves is no failure.
        let ours =
            self.stored.agents.values().any(|record| record.id == *agent && record.disrupted().is_some());
        // What a host could not have begins anew when it can.
        let anew = self.skipped.contains(&(agent.clone(), task_type));
        if self.known_ready.contains(&(agent.clone(), task_type)) && !ours && !anew {
            self.recovering.insert(task.clone(), now);
        }
        let most = self.settings.max_recoveries.of(self.hosts.len());
        assert!(self.recovering.len() <= most, "{:?} are recovered at the same time", self.recovering);
    }

    /// The scheduler was told something, and has stored what follows from it.
    pub(super) fn note_told(&mut self, input: &Input) {
        if let Input::Event(Event::Update(update)) = input {
            if update.state == TaskState::Running && update.check == CheckResult::Exited(0) {
                self.told_ready.insert(update.task.clone());
            } else {
                self.told_ready.remove(&update.task);
            }
        }
        let mut disrupted = std::mem::take(&mut self.disrupted);
        disrupted.retain(|_, disrupted| self.now.since(disrupted.since) < self.settings.agent_timeout);
        for (agent, disrupted) in &mut disrupted {
            if !self.is_healthy(agent, &disrupted.task) {
                disrupted.healthy_since = None;
            } else if disrupted.healthy_since.is_none() {
                disrupted.healthy_since = Some(self.now);
            }
        }
        let stability = self.settings.stability;
        disrupted.retain(|_, d| d.healthy_since.is_none_or(|since| self.now.since(since) < stability));
        self.disrupted = disrupted;
    }

    /// Whether what was launched last with the permission is done, and all that was ready is, as far as it was told.
    fn is_healthy(&self, agent: &AgentId, last: &TaskId) -> bool {
        let over = self.tasks.get(last).is_some_and(|task| {
            let ended = task.now.as_ref().filter(|_| !task.alive && task.queue.is_empty());
            ended.is_some_and(|now| now.state == TaskState::Finished || now.message.ends_with(" 80"))
        });
        let ready = |task_type: TaskType| {
            let mut tasks = self.tasks.iter().filter(|(_, t)| t.agent == *agent && t.task_type == task_type);
            tasks.any(|(id, _)| self.told_ready.contains(id))
                || self.skipped.contains(&(agent.clone(), task_type))
        };
        let mut known = self.known_ready.iter().filter(|(known, _)| known == agent);
        over && known.all(|(_, task_type)| ready(*task_type))
    }

    /// Something may be restarted on an agent: it has said that it needs that, it has a slot, and there is one.
    pub(super) fn check_slots(&mut self, agent: &AgentId, task_type: TaskType, task: &TaskId) {
        let asked = self.needs_restart.contains(&(agent.clone(), task_type));
        assert!(asked, "{task_type} may restart something on {agent}, and did not ask for it");
        let record = self.stored.agents.values().find(|record| record.id == *agent);
        let slot = record.and_then(|record| record.disrupted());
        let slot = slot.unwrap_or_else(|| panic!("{task} has no slot: {record:?}"));
        // The time of an agent begins with its first launch, which may never have been sent.
        let new = Disrupted { since: slot.since, task: task.clone(), healthy_since: None };
        self.disrupted.insert(agent.clone(), new);
        let most = self.settings.max_restarts.of(self.hosts.len());
        assert!(self.disrupted.len() <= most, "more than {most} at a time: {:?}", self.disrupted);
    }
}
