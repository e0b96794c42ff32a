//! The core's effects as calls of the v1 scheduler API.

use std::time::Duration;

use mesos_v1 as mesos;
use mesos_v1::scheduler::Call;
use mesos_v1::scheduler::call::{
    Accept, Acknowledge, Decline, Kill, Reconcile, Revive, Suppress, Type, reconcile,
};

use super::convert::to_mesos;
use crate::core::{AgentKey, Effect, Launch};
use crate::tasks::{Place, TaskTypes};

/// The call for an effect, without our framework ID; none for effects that are no call of this API. `address`
/// tells the address of the launch's agent.
pub fn call(
    effect: &Effect,
    tasks: &TaskTypes,
    roles: &[String],
    address: impl Fn(&Launch) -> Option<AgentKey>,
) -> Option<Call> {
    Some(match effect {
        Effect::Launch(launch) => accept(launch, tasks, &address(launch)?)?,
        Effect::Decline { offers, refuse } => Call {
            r#type: Some(Type::Decline.into()),
            decline: Some(Decline {
                offer_ids: offers.iter().map(|id| id.0.as_str().into()).collect(),
                filters: Some(filters(*refuse)),
            }),
            ..Call::default()
        },
        Effect::Acknowledge { task, agent, uuid } => Call {
            r#type: Some(Type::Acknowledge.into()),
            acknowledge: Some(Acknowledge {
                agent_id: agent.0.as_str().into(),
                task_id: task.0.as_str().into(),
                uuid: uuid.clone().into(),
            }),
            ..Call::default()
        },
        Effect::Kill { task, agent } => Call {
            r#type: Some(Type::Kill.into()),
            kill: Some(Kill {
                task_id: task.0.as_str().into(),
                agent_id: Some(agent.0.as_str().into()),
                kill_policy: None,
            }),
            ..Call::default()
        },
        Effect::Reconcile(tasks) => Call {
            r#type: Some(Type::Reconcile.into()),
            reconcile: Some(Reconcile {
                tasks: tasks
                    .iter()
                    .map(|(task, agent)| reconcile::Task {
                        task_id: task.0.as_str().into(),
                        agent_id: Some(agent.0.as_str().into()),
                    })
                    .collect(),
            }),
            ..Call::default()
        },
        Effect::Revive => Call {
            r#type: Some(Type::Revive.into()),
            revive: Some(Revive { roles: roles.to_vec() }),
            ..Call::default()
        },
        Effect::Suppress => Call {
            r#type: Some(Type::Suppress.into()),
            suppress: Some(Suppress { roles: roles.to_vec() }),
            ..Call::default()
        },
        Effect::ReadOutput { .. } | Effect::RefreshInventory | Effect::Abort(_) => return None,
    })
}

fn accept(launch: &Launch, tasks: &TaskTypes, agent: &AgentKey) -> Option<Call> {
    use mesos::offer::{Operation, operation};
    let place = Place {
        agent: launch.agent.clone(),
        address: agent.0.clone(),
        resources: launch.resources.iter().map(to_mesos).collect(),
    };
    let info = tasks.task_info(launch.task_type, &launch.task, place)?;
    let operation = Operation {
        r#type: Some(operation::Type::Launch.into()),
        launch: Some(operation::Launch { task_infos: vec![info] }),
        ..Operation::default()
    };
    Some(Call {
        r#type: Some(Type::Accept.into()),
        accept: Some(Accept {
            offer_ids: vec![launch.offer.0.as_str().into()],
            operations: vec![operation],
            // What is left of the offer is wanted again when the next step's turn comes.
            filters: Some(filters(Duration::from_secs(1))),
        }),
        ..Call::default()
    })
}

fn filters(refuse: Duration) -> mesos::Filters {
    mesos::Filters { refuse_seconds: Some(refuse.as_secs_f64()) }
}
