//! Scripts: what is sent to one core, and what is expected of it.

use std::time::Duration;

use super::*;

/// A core, its store, and a clock.
pub struct Script {
    pub core: Core,
    pub now: Timestamp,
    /// Everything stored so far, from the changes alone.
    pub stored: State,
    /// Whether the master says at once that it has told of all tasks.
    pub tells_all: bool,
    settings: Settings,
    offers: u32,
    updates: u8,
}

impl Script {
    pub fn new(settings: Settings) -> Self {
        let core = Core::new(settings.clone(), State::default());
        let (now, stored) = (Timestamp(1_000_000), State::default());
        Self { core, now, stored, tells_all: true, settings, offers: 0, updates: 0 }
    }

    /// Subscribed, and told of agents `a`, `b`, … with the IDs `S-a`, `S-b`, ….
    pub fn with_agents(settings: Settings, hosts: &[&str]) -> Self {
        let mut script = Self::new(settings);
        script.subscribed();
        script.agents(hosts);
        script
    }

    /// Sends one input; what it changes is stored. Where the master is asked for all tasks it has none to tell of but
    /// those that the script tells, and says so.
    pub fn send(&mut self, input: Input) -> Frame {
        let mut frame = self.handle(input);
        let asked: Vec<TaskId> = if self.tells_all { last_asked(&frame).collect() } else { Vec::new() };
        for task in asked {
            let answer = Update { task, ..state(TaskState::Gone) };
            let more = self.handle(Input::Event(Event::Update(answer)));
            frame.changes.extend(more.changes);
            frame.effects.extend(more.effects);
            frame.decisions.extend(more.decisions);
        }
        frame
    }

    /// Sends one input, and nothing else.
    pub fn handle(&mut self, input: Input) -> Frame {
        let frame = self.core.handle(self.now, input);
        for change in &frame.changes {
            self.stored.apply(change.clone());
        }
        assert_eq!(self.stored, *self.core.state(), "replaying the changes gives another state");
        frame
    }

    pub fn subscribed(&mut self) -> Frame {
        self.send(Input::Event(Event::Subscribed("F".into())))
    }

    pub fn agents(&mut self, hosts: &[&str]) -> Frame {
        let agents = hosts.iter().map(|host| agent(host, &format!("S-{host}"))).collect();
        self.send(Input::Agents(agents))
    }

    /// Time goes by in one leap, then a tick.
    pub fn wait(&mut self, time: Duration) -> Frame {
        self.now = self.now.after(time);
        self.send(Input::Tick)
    }

    /// An offer of `S-<host>` with room for everything.
    pub fn offer(&mut self, host: &str) -> Frame {
        self.offer_of(host, plenty())
    }

    pub fn offer_of(&mut self, host: &str, resources: Vec<Resource>) -> Frame {
        let offer = self.make_offer(host, resources);
        self.send(Input::Event(Event::Offers(vec![offer])))
    }

    pub fn make_offer(&mut self, host: &str, resources: Vec<Resource>) -> Offer {
        // Task IDs are unique within a millisecond.
        self.now = self.now.after(Duration::from_millis(1));
        self.offers += 1;
        let id = OfferId::from(format!("O{}", self.offers));
        Offer { id, agent: format!("S-{host}").into(), resources: resources.into(), unavailability: None }
    }

    /// Sends an offer of `host` and expects that it is used to launch `task_type`.
    pub fn launches(&mut self, host: &str, task_type: TaskType) -> TaskId {
        let frame = self.offer(host);
        let launch =
            launch(&frame).unwrap_or_else(|| panic!("{task_type} is not launched on {host}: {frame:?}"));
        assert_eq!(launch.task_type, task_type);
        assert_eq!(launch.agent, AgentId::from(format!("S-{host}")));
        launch.task
    }

    /// Sends an offer of `host` and expects that it is declined.
    pub fn declines(&mut self, host: &str) -> Duration {
        let frame = self.offer(host);
        assert_eq!(launch(&frame), None);
        declined(&frame).unwrap_or_else(|| panic!("the offer of {host} is kept: {frame:?}"))
    }

    pub fn update(&mut self, host: &str, task: &TaskId, update: Update) -> Frame {
        let update = Update { task: task.clone(), agent: Some(AgentId::from(format!("S-{host}"))), ..update };
        self.send(Input::Event(Event::Update(update)))
    }

    /// An update from the agent: it wants to be acknowledged.
    pub fn reports(&mut self, host: &str, task: &TaskId, update: Update) -> Frame {
        self.updates += 1;
        self.update(host, task, Update { uuid: Some(vec![self.updates]), ..update })
    }

    /// The task is running, healthy, and its check passes.
    pub fn ready(&mut self, host: &str, task: &TaskId) -> Frame {
        self.reports(host, task, ready())
    }

    pub fn finished(&mut self, host: &str, task: &TaskId) -> Frame {
        self.reports(host, task, state(TaskState::Finished))
    }

    pub fn failed(&mut self, host: &str, task: &TaskId, message: &str) -> Frame {
        self.reports(host, task, Update { message: message.into(), ..state(TaskState::Failed) })
    }

    /// Launches `task_type` and brings it to its goal.
    pub fn reaches(&mut self, host: &str, task_type: TaskType) -> TaskId {
        let task = self.launches(host, task_type);
        match self.settings.specs[&task_type].goal {
            Goal::Finished => self.finished(host, &task),
            Goal::Running { .. } => self.ready(host, &task),
        };
        task
    }

    /// Installs everything on one agent; the task of the cluster when it is still to be done.
    pub fn install(&mut self, host: &str) -> Vec<TaskId> {
        let mut tasks = Vec::new();
        if !self.stored.cluster.tasks.contains_key(&TaskType::ClusterInit) {
            tasks.push(self.reaches(host, TaskType::ClusterInit));
        }
        let types: Vec<TaskType> = self.settings.specs.keys().copied().collect();
        for task_type in types.into_iter().filter(|t| Core::is_step(*t)) {
            tasks.push(self.reaches(host, task_type));
        }
        let network = TaskType::DockerNetwork;
        if self.settings.specs.contains_key(&network) && !self.stored.cluster.tasks.contains_key(&network) {
            self.reaches(host, network);
        }
        tasks
    }

    /// A new scheduler process: only what is stored is left.
    pub fn restart(&mut self) {
        self.core = Core::new(self.settings.clone(), through_json(&self.stored));
        assert_eq!(*self.core.state(), self.stored);
    }

    /// The same for a scheduler with other settings.
    pub fn restart_with(&mut self, settings: Settings) {
        self.settings = settings;
        self.restart();
    }

    /// Subscribed again, and told of the same agents: what follows a restart.
    pub fn resumes(&mut self, hosts: &[&str]) {
        self.subscribed();
        self.agents(hosts);
    }

    /// Brings `task_type` to say that it needs a restart; it was not allowed one.
    pub fn needs_restart(&mut self, host: &str, task_type: TaskType) {
        let launch = launch(&self.offer(host)).unwrap_or_else(|| panic!("{task_type} is not launched"));
        assert_eq!((launch.task_type, launch.may_restart), (task_type, false));
        self.failed(host, &launch.task, "Command exited with status 79");
    }

    /// Sends an offer of `host` and expects that `task_type` is launched with the permission to restart.
    pub fn disrupts(&mut self, host: &str, task_type: TaskType) -> TaskId {
        let frame = self.offer(host);
        let launch = launch(&frame).unwrap_or_else(|| panic!("{host} is not disrupted: {frame:?}"));
        assert_eq!((launch.task_type, launch.may_restart), (task_type, true));
        launch.task
    }

    pub fn phase(&self, host: &str, task_type: TaskType) -> Option<&Phase> {
        let slot = Slot::of(task_type, &AgentKey::from(format!("{host}:5051")));
        self.stored.task(&slot).map(|record| &record.phase)
    }

    pub fn agent_view(&self, host: &str) -> AgentView {
        let key = AgentKey::from(format!("{host}:5051"));
        self.core.view().agents.into_iter().find(|agent| agent.agent == key).unwrap()
    }

    /// The agents that hold a slot for restarts, as stored.
    pub fn slots(&self) -> Vec<&str> {
        let agents = self.stored.agents.values().filter(|agent| agent.disrupted().is_some());
        agents.map(|agent| &*agent.key.0).collect()
    }

    /// What the plan says of one step: its status and its message.
    pub fn step(&self, id: &str) -> (Status, String) {
        let phases = self.core.view().deploy.phases;
        let mut steps = phases.into_iter().flat_map(|phase| phase.steps);
        let step = steps.find(|step| step.id == id).unwrap_or_else(|| panic!("no step {id}"));
        (step.status, step.message)
    }
}

/// The frame's one launch.
pub fn launch(frame: &Frame) -> Option<Launch> {
    let mut launches = frame.effects.iter().filter_map(|effect| match effect {
        Effect::Launch(launch) => Some(launch.clone()),
        _ => None,
    });
    let first = launches.next();
    assert_eq!(launches.next(), None, "more than one launch: {frame:?}");
    first
}

/// For how long the frame's one decline refuses.
pub fn declined(frame: &Frame) -> Option<Duration> {
    frame.effects.iter().find_map(|effect| match effect {
        Effect::Decline { refuse, .. } => Some(*refuse),
        _ => None,
    })
}

/// The tasks that the frame asks the master about; none when it does not ask.
pub fn asked(frame: &Frame) -> Option<Vec<TaskId>> {
    frame.effects.iter().find_map(|effect| match effect {
        Effect::Reconcile(tasks) => Some(tasks.iter().map(|(task, _)| task.clone()).collect()),
        _ => None,
    })
}

/// The tasks that there never were, which the frame asks about after all others.
pub fn last_asked(frame: &Frame) -> impl Iterator<Item = TaskId> {
    let asked = frame.effects.iter().filter_map(|effect| match effect {
        Effect::Reconcile(tasks) => tasks.first().map(|(task, _)| task.clone()),
        _ => None,
    });
    asked.filter(|task| task.0.starts_with("all."))
}

pub fn killed(frame: &Frame) -> Vec<TaskId> {
    let kills = frame.effects.iter().filter_map(|effect| match effect {
        Effect::Kill { task, .. } => Some(task.clone()),
        _ => None,
    });
    kills.collect()
}

pub fn acknowledged(frame: &Frame) -> bool {
    frame.effects.iter().any(|effect| matches!(effect, Effect::Acknowledge { .. }))
}

/// An update of the master's, which wants no acknowledgement and says no more than the state.
pub fn state(state: TaskState) -> Update {
    Update::bare("".into(), state)
}

pub fn ready() -> Update {
    Update { healthy: Some(true), check: CheckResult::Exited(0), ..state(TaskState::Running) }
}

pub fn not_ready() -> Update {
    Update { check: CheckResult::Pending, ..state(TaskState::Running) }
}
