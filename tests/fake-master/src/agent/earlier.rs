//! Tasks of before the world began: of clusters that are not to be installed first.

use std::collections::VecDeque;
use std::sync::Arc;

use mesos_v1::{CheckStatusInfo, FrameworkInfo, TaskInfo, TaskState, check_status_info};

use super::AgentTask;
use crate::resources::Resources;
use crate::script::Script;
use crate::settings::AgentRef;
use crate::state::TaskKey;
use crate::world::World;

impl World {
    /// `framework` has launched `task` on this agent: it runs for ever, is healthy where it has a health check, its check
    /// has exited with 0, and all that has been acknowledged. The master learns of it when that framework subscribes, or
    /// the agent registers. Says what is wrong with the task's resources, in Mesos' words.
    pub fn already_runs(
        &mut self,
        agent: AgentRef,
        framework: &Arc<FrameworkInfo>,
        task: &TaskInfo,
    ) -> Result<(), String> {
        let resources = Resources::of_messages(&task.resources)?;
        let allocated = task.resources.iter().find_map(|resource| resource.allocation_info.as_ref());
        let role = allocated.map_or("*", |info| info.role());
        let retry = self.settings.retry.0;
        let agent = &mut self.agents[agent.index()];
        let id: Arc<str> = framework.id.as_ref().map_or("", |id| &id.value).into();
        agent.frameworks.insert(Arc::clone(&id), Arc::clone(framework));
        agent.next_serial += 1;
        let key: TaskKey = (id, task.task_id.value.as_str().into());
        let record = AgentTask {
            role: role.into(),
            resources,
            state: TaskState::TaskRunning,
            healthy: task.health_check.is_some().then_some(true),
            check: task.check.as_ref().map(|check| CheckStatusInfo {
                r#type: Some(check.r#type().into()),
                command: Some(check_status_info::Command { exit_code: Some(0) }),
                ..Default::default()
            }),
            pending: VecDeque::new(),
            has_health: task.health_check.is_some(),
            serial: agent.next_serial,
            retry,
            script: Script::default(),
            dying: false,
            drained: false,
        };
        agent.tasks.insert(key, record);
        Ok(())
    }
}
