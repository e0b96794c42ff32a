//! What the world knows better than the scheduler: how many recoveries there are, and who was away for how long.

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
        if self.known_ready.contains(&(agent.clone(), task_type)) {
            self.recovering.insert(task.clone(), now);
        }
        let most = self.settings.max_recoveries.of(self.hosts.len());
        assert!(self.recovering.len() <= most, "{:?} are recovered at the same time", self.recovering);
    }
}
