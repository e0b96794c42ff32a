//! What the scheduler's effects do to the world, and what each of them must not do.

use super::super::script::state as bare;
use super::*;

impl World {
    pub(super) fn effect(&mut self, effect: Effect) {
        if let Effect::Revive = effect {
            let interval = self.settings.revive_interval;
            let last = self.last_revive.replace(self.now);
            assert!(last.is_none_or(|last| self.now.since(last) >= interval), "REVIVE again too soon");
        }
        match effect {
            // Not carried by the subscription.
            Effect::RefreshInventory => self.inventory_wanted = true,
            Effect::Abort(message) => panic!("nothing here is a reason to abort: {message}"),
            Effect::Acknowledge { task, uuid, .. } => self.acknowledge(&task, &uuid),
            Effect::Launch(launch) => self.launch(&launch),
            Effect::ReadOutput { slot, task, .. } => {
                let text = format!("the last words of {task}");
                self.send(Input::Output { slot, task, text });
            }
            _ if !self.subscribed => {}
            Effect::Decline { offers, refuse } => {
                for offer in offers {
                    if let Some(agent) = self.offers.remove(&offer) {
                        let until = self.now.after(refuse);
                        let filter = self.filters.entry(agent).or_insert(until);
                        *filter = until.max(*filter);
                    }
                }
            }
            Effect::Kill { task, .. } => self.kill(&task),
            Effect::Reconcile(tasks) if tasks.is_empty() => {
                for task in self.tasks.keys().cloned().collect::<Vec<_>>() {
                    if self.tasks[&task].alive {
                        self.answer(&task, None);
                    }
                }
            }
            Effect::Reconcile(tasks) => {
                for (task, agent) in tasks {
                    self.answer(&task, Some(agent));
                }
            }
            Effect::Revive => {
                self.suppressed = false;
                self.filters.clear();
            }
            Effect::Suppress => self.suppressed = true,
            Effect::Constrain(hosts) => self.constraints = hosts,
            Effect::Reserve { .. } | Effect::Unreserve { .. } => panic!("nothing is reserved here"),
            Effect::AcceptInverse(_) => panic!("no agent goes down here"),
        }
    }

    fn live_record(&self, id: &TaskId) -> Option<&TaskRecord> {
        let mut slots = self.stored.slots().map(|(_, record)| record);
        slots.find(|record| record.phase.live().is_some_and(|(task, _)| task == id))
    }

    fn acknowledge(&mut self, id: &TaskId, uuid: &[u8]) {
        let record = self.live_record(id);
        let task = self.tasks.get(id).expect("an update of a task that was never launched");
        let front = task.queue.front().filter(|update| update.uuid.as_deref() == Some(uuid));
        let Some(update) = front.cloned() else {
            return;
        };
        match (update.state, record.map(|record| &record.phase)) {
            (TaskState::Finished | TaskState::Failed | TaskState::Drained, Some(phase)) => {
                panic!("the end of {id} is acknowledged and not stored: {phase:?}")
            }
            (_, Some(Phase::Launched { .. })) => panic!("{id}: {update:?} is acknowledged and not stored"),
            _ => {}
        }
        let (agent, task_type) = (self.tasks[id].agent.clone(), self.tasks[id].task_type);
        if update.state == TaskState::Running && update.check == CheckResult::Exited(0) {
            self.is_known_ready(agent, task_type);
        } else if update.state == TaskState::Drained {
            self.known_ready.remove(&(agent, task_type));
        }
        let task = self.tasks.get_mut(id).unwrap();
        if self.subscribed {
            task.queue.pop_front();
            if let Some(next) = task.queue.front().cloned()
                && self.reachable(next.agent.as_ref().unwrap())
            {
                self.send_update(next);
            }
        }
    }

    fn launch(&mut self, launch: &Launch) {
        let Launch { offer, agent, task_type, task, may_restart, only_looks, .. } = launch;
        let record = self.live_record(task).unwrap_or_else(|| panic!("{task} is launched and not stored"));
        let (stored, at) = record.phase.live().map(|(_, agent)| (agent, record.phase.is_checked())).unwrap();
        assert!(
            (stored, at) == (agent, *only_looks) && !matches!(record.phase, Phase::Active { .. }),
            "{task} is stored as {record:?}"
        );
        if *only_looks {
            let slot = (agent.clone(), *task_type);
            let done = self.reached.contains(&slot) || task_type.scope() == Scope::Cluster;
            assert!(
                done && record.target.as_ref() == Some(&launch.target) && !may_restart,
                "{task}: {record:?}"
            );
        }
        assert!(!self.tasks.contains_key(task), "{task} is launched twice");
        let standing = self.listed.get(agent);
        assert_eq!(standing, Some(&Standing::Active), "{task} is launched where nothing may be");
        if !self.subscribed {
            return;
        }
        if *may_restart {
            self.check_slots(agent, *task_type, task);
        }
        let valid = self.offers.remove(offer).is_some() && self.reachable(agent);
        if !valid {
            let dropped =
                Update { task: task.clone(), agent: Some(agent.clone()), ..bare(TaskState::Dropped) };
            return self.send_update(dropped);
        }
        let host = self.host(agent).unwrap();
        assert!(!host.excluded, "{task} is launched on an excluded agent");
        self.check_order(agent, *task_type);
        let started = WorldTask {
            task_type: *task_type,
            agent: agent.clone(),
            only_looks: *only_looks,
            now: None,
            queue: VecDeque::new(),
            alive: true,
            was_unreachable: false,
        };
        self.tasks.insert(task.clone(), started);
        self.check_alone(agent, *task_type);
        self.check_recoveries(agent, *task_type, task);
    }

    /// What comes before has reached its goal on this agent.
    fn check_order(&self, agent: &AgentId, task_type: TaskType) {
        let needed: &[TaskType] = match task_type {
            TaskType::Libnetwork => &[TaskType::DockerClusterStore],
            TaskType::DockerNetwork => &[TaskType::Libnetwork],
            _ => &[],
        };
        let earlier = agent_types().filter(|t| *t < task_type);
        for earlier in earlier.filter(|_| task_type.scope() == Scope::Agent).chain(needed.iter().copied()) {
            let slot = (agent.clone(), earlier);
            let passed = self.skipped.contains(&slot) && !needed.contains(&earlier);
            assert!(
                self.reached.contains(&slot) || passed,
                "{task_type} is launched on {agent} before {earlier} is there"
            );
        }
        let initialised = self.reached.iter().any(|(_, reached)| *reached == TaskType::ClusterInit);
        let needs_it = matches!(task_type, TaskType::CalicoNode | TaskType::Libnetwork);
        assert!(!needs_it || initialised, "{task_type} before cluster-init");
    }

    fn check_alone(&self, agent: &AgentId, task_type: TaskType) {
        let alive = self.tasks.iter().filter(|(_, task)| {
            let same_slot = match task_type.scope() {
                Scope::Agent => task.agent == *agent,
                Scope::Cluster => !task.was_unreachable,
            };
            task.alive && task.task_type == task_type && same_slot
        });
        let alive: Vec<&TaskId> = alive.map(|(id, _)| id).collect();
        assert!(alive.len() <= 1, "side by side: {alive:?}");
    }

    fn kill(&mut self, id: &TaskId) {
        let task = &self.tasks[id];
        if !task.alive || !self.reachable(&task.agent) {
            return self.answer(id, None);
        }
        // Every task here was launched by us and stored; only a cluster's task that was given up may be in the way,
        // and one may hang, as far as it was heard of.
        let given_up = task.task_type.scope() == Scope::Cluster && task.was_unreachable;
        let limit = self.settings.task_timeout;
        let hung = self.live_record(id).is_some_and(|record| {
            record.phase.beginning().is_some_and(|(_, _, since)| self.now.since(since) >= limit)
        });
        assert!(given_up || hung, "{id} is alive, ours, and killed");
        self.report(id, Update { message: "Command terminated".into(), ..bare(TaskState::Failed) });
    }

    /// What the master knows of a task: what its agent said last.
    fn answer(&mut self, id: &TaskId, asked_for: Option<AgentId>) {
        let update = match self.tasks.get(id) {
            Some(task) if self.host(&task.agent).is_some() => {
                if !self.reachable(&task.agent) {
                    bare(TaskState::Unreachable)
                } else if let Some(front) = task.queue.front() {
                    front.clone()
                } else if task.alive {
                    task.now.clone().unwrap_or_else(|| bare(TaskState::Starting))
                } else {
                    bare(TaskState::Gone)
                }
            }
            _ => bare(TaskState::Gone),
        };
        let agent = self.tasks.get(id).map(|task| task.agent.clone()).or(asked_for);
        self.send_update(Update { task: id.clone(), agent, uuid: None, ..update });
    }
}
