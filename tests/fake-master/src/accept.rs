//! ACCEPT: launches, reservations, and what becomes of the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesos_v1::offer::{Operation, operation};
use mesos_v1::scheduler::{Event, call, event};
use mesos_v1::task_status::Reason;
use mesos_v1::{OfferId, OperationState, OperationStatus, Resource, TaskInfo, TaskState};

use crate::resources::Resources;
use crate::state::{AgentKey, Task};
use crate::tasks::FromMaster;
use crate::world::{ToAgent, World};

/// What is left of the offers, operation by operation.
struct Remaining {
    agent: AgentKey,
    role: Arc<str>,
    resources: Resources,
}

impl World {
    pub(crate) fn accept(&mut self, id: &Arc<str>, accept: &call::Accept) {
        let filters = accept.filters.unwrap_or_default();
        let (agent, role) = match self.validate_offers(id, &accept.offer_ids) {
            Ok(valid) => valid,
            Err(fault) => return self.refuse_offers(id, accept, &fault),
        };
        let mut offered = Resources::default();
        for offer in &accept.offer_ids {
            let Some(number) = self.offer_number(offer) else { continue };
            let Some(offer) = self.master.offers.remove(&number) else { continue };
            self.framework(id).offers.remove(&number);
            if let Some(slot) = self.master.registered.get_mut(&agent) {
                slot.offers.remove(&number);
            }
            offered.add(&offer.resources);
        }
        let mut rest = Remaining { agent, role, resources: offered.clone() };
        for operation in &accept.operations {
            match (operation.r#type(), operation) {
                (operation::Type::Launch, Operation { id: Some(_), launch: Some(launch), .. }) => {
                    let why = "The `id` field cannot be set on LAUNCH operations";
                    launch.task_infos.iter().for_each(|task| self.task_error(id, task, why));
                }
                (operation::Type::Launch, Operation { launch: Some(launch), .. }) => {
                    launch.task_infos.iter().for_each(|task| self.launch(id, task, &mut rest));
                }
                (operation::Type::Reserve, Operation { reserve: Some(reserve), .. }) => {
                    let done = if reserve.source.is_empty() {
                        self.convert(id, &reserve.resources, &mut rest, true)
                    } else {
                        Err("Operation attempted with invalid resources: Reservation updates are not yet \
                             implemented for the scheduler API."
                            .to_owned())
                    };
                    self.told(id, operation, done);
                }
                (operation::Type::Unreserve, Operation { unreserve: Some(unreserve), .. }) => {
                    let done = self.convert(id, &unreserve.resources, &mut rest, false);
                    self.told(id, operation, done);
                }
                (operation::Type::LaunchGroup, Operation { launch_group: Some(group), .. }) => {
                    for task in &group.task_group.tasks {
                        let why = "the fake master has no task groups";
                        self.update_from_master(
                            id,
                            &FromMaster {
                                agent: Some(&task.agent_id),
                                task: &task.task_id,
                                state: TaskState::TaskError,
                                reason: Reason::TaskGroupInvalid,
                                message: why,
                                unreachable: None,
                            },
                        );
                    }
                }
                _ => self.told(id, operation, Err("the fake master has no volumes and disks".to_owned())),
            }
        }
        // What an operation has made is not what the framework refuses.
        let made = rest.resources.minus(&offered);
        let refused = rest.resources.minus(&made);
        let role = rest.role;
        self.recover(id, agent, &role, &made, None);
        self.recover(id, agent, &role, &refused, Some(&filters));
    }

    /// The agent and the role of the offers, or what is wrong with them.
    fn validate_offers(&mut self, id: &Arc<str>, offers: &[OfferId]) -> Result<(AgentKey, Arc<str>), String> {
        if offers.is_empty() {
            return Err("No offers specified".to_owned());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = offers.iter().find(|offer| !seen.insert(&offer.value)) {
            return Err(format!("Duplicate offer {twice} in offer list"));
        }
        let mut known = Vec::new();
        for offer in offers {
            let found = self.offer_number(offer).and_then(|number| self.master.offers.get(&number));
            known.push((offer, found.ok_or_else(|| format!("Offer {offer} is no longer valid"))?));
        }
        for (offer, found) in &known {
            if found.framework != *id {
                return Err(format!(
                    "Offer {offer} has invalid framework {} while framework {id} is expected",
                    found.framework
                ));
            }
        }
        let (_, first) = known[0];
        for (offer, found) in &known {
            if found.role != first.role {
                return Err(format!(
                    "Aggregated offers must be allocated to the same role. Offer {offer} uses role '{} but another is \
                     using role '{}",
                    found.role, first.role
                ));
            }
        }
        for (offer, found) in &known {
            if found.agent != first.agent {
                return Err(format!(
                    "Aggregated offers must belong to one single agent. Offer {offer} uses agent {} and agent {}",
                    self.identities.id(found.agent),
                    self.identities.id(first.agent)
                ));
            }
        }
        Ok((first.agent, Arc::clone(&first.role)))
    }

    /// Nothing is launched; the offers that are there are free again.
    fn refuse_offers(&mut self, id: &Arc<str>, accept: &call::Accept, fault: &str) {
        for offer in &accept.offer_ids {
            if let Some(number) = self.offer_number(offer) {
                self.discard(number, None);
            }
        }
        for operation in &accept.operations {
            let launched = operation.launch.iter().flat_map(|launch| &launch.task_infos);
            let grouped = operation.launch_group.iter().flat_map(|group| &group.task_group.tasks);
            match operation.r#type() {
                operation::Type::Launch | operation::Type::LaunchGroup => {
                    for task in launched.chain(grouped) {
                        let state = self.framework(id).aware(TaskState::TaskDropped);
                        self.update_from_master(
                            id,
                            &FromMaster {
                                agent: Some(&task.agent_id),
                                task: &task.task_id,
                                state,
                                reason: Reason::InvalidOffers,
                                message: &format!("Task launched with invalid offers: {fault}"),
                                unreachable: None,
                            },
                        );
                    }
                }
                _ => {
                    let fault = format!("Operation attempted with invalid offers: {fault}");
                    self.told(id, operation, Err(fault));
                }
            }
        }
    }

    fn task_error(&mut self, id: &Arc<str>, task: &TaskInfo, message: &str) {
        self.update_from_master(
            id,
            &FromMaster {
                agent: Some(&task.agent_id),
                task: &task.task_id,
                state: TaskState::TaskError,
                reason: Reason::TaskInvalid,
                message,
                unreachable: None,
            },
        );
    }

    fn launch(&mut self, id: &Arc<str>, task: &TaskInfo, rest: &mut Remaining) {
        let resources = match self.validate_task(id, task, rest) {
            Ok(resources) => resources,
            Err(fault) => return self.task_error(id, task, &fault),
        };
        rest.resources.subtract(&resources);
        let name: Arc<str> = task.task_id.value.as_str().into();
        let record = Task {
            agent: rest.agent,
            role: Arc::clone(&rest.role),
            resources: resources.clone(),
            state: TaskState::TaskStaging,
            forwarded: None,
            healthy: None,
            check: None,
            contained: false,
            recovered: false,
        };
        let framework = self.framework(id);
        framework.tasks.insert(Arc::clone(&name), record);
        let info = Arc::clone(&framework.info);
        if let Some(slot) = self.master.registered.get_mut(&rest.agent) {
            slot.tasks.insert((Arc::clone(id), name));
        }
        let (role, task) = (Arc::clone(&rest.role), Box::new(task.clone()));
        self.tell(rest.agent, ToAgent::Run { framework: info, role, resources, task });
    }

    /// The resources of a task that can be launched.
    fn validate_task(
        &mut self,
        id: &Arc<str>,
        task: &TaskInfo,
        rest: &Remaining,
    ) -> Result<Resources, String> {
        let name = &*task.task_id.value;
        if name.is_empty() {
            return Err("ID must not be empty".to_owned());
        }
        if name.len() > 255 {
            return Err("ID must not be greater than 255 characters".to_owned());
        }
        if name == "." || name == ".." {
            return Err(format!("'{name}' is disallowed"));
        }
        if name.contains(|c: char| c.is_control() || c == '/' || c == '\\') {
            return Err(format!("'{name}' contains invalid characters"));
        }
        let framework = self.framework(id);
        if framework.tasks.contains_key(name) {
            return Err(format!("Task has duplicate ID: {name}"));
        }
        if framework.unreachable.contains_key(name) {
            return Err(format!("Task reuses the ID of an unreachable task: {name}"));
        }
        let agent = self.identities.id(rest.agent);
        if task.agent_id.value != **agent {
            return Err(format!("Task uses invalid agent {} while agent {agent} is expected", task.agent_id));
        }
        if task.resources.is_empty() {
            return Err("Task uses no resources".to_owned());
        }
        let resources = Resources::of_messages(&task.resources)?;
        let role = single_role(&task.resources, &rest.role)
            .map_err(|fault| format!("Invalid task resources: {fault}"))?;
        if task.executor.is_some() == task.command.is_some() {
            return Err(
                "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                    .to_owned(),
            );
        }
        if task.executor.is_some() {
            return Err("the fake master has no custom executors".to_owned());
        }
        if *role != *rest.role || !rest.resources.contains(&resources) {
            return Err(format!(
                "Total resources {} required by task and its executor is more than available {}",
                resources.display(role),
                rest.resources.display(&rest.role)
            ));
        }
        Ok(resources)
    }

    /// RESERVE and UNRESERVE: the innermost reservation is put on, or taken off.
    fn convert(
        &mut self,
        id: &Arc<str>,
        messages: &[Resource],
        rest: &mut Remaining,
        reserve: bool,
    ) -> Result<(), String> {
        let reserved =
            Resources::of_messages(messages).map_err(|fault| format!("Invalid resources: {fault}"))?;
        let principal = self.framework(id).info.principal.clone();
        let text = |resources: &Resources| resources.display(&rest.role).to_string();
        for part in reserved.parts() {
            if !part.is_dynamically_reserved() {
                return Err(format!("Resource {} is not dynamically reserved", text(&reserved)));
            }
            let last = part.reservations.last();
            if reserve
                && principal.is_some()
                && last.and_then(|last| last.principal.as_ref()) != principal.as_ref()
            {
                return Err(
                    "A reserve operation was attempted by another principal than that of the resource"
                        .to_owned(),
                );
            }
            if reserve && part.reserved_for() != Some(&*rest.role) {
                return Err(format!(
                    "A reserve operation was attempted for a resource with role '{}', but the resource was allocated \
                     to role '{}'",
                    part.reserved_for().unwrap_or_default(),
                    rest.role
                ));
            }
        }
        single_role(messages, &rest.role)
            .map_err(|fault| format!("Invalid reservation resources: {fault}"))?;
        let plain = reserved.without_last_reservation();
        let (from, to) = if reserve { (&plain, &reserved) } else { (&reserved, &plain) };
        if !rest.resources.contains(from) {
            return Err(format!("{} does not contain {}", text(&rest.resources), text(from)));
        }
        rest.resources.subtract(from);
        rest.resources.add(to);
        let Some(slot) = self.master.registered.get_mut(&rest.agent) else { return Ok(()) };
        let mut total = slot.total.minus(from);
        total.add(to);
        slot.total = Arc::new(total);
        let total = Arc::clone(&slot.total);
        self.tell(rest.agent, ToAgent::Checkpoint(total));
        Ok(())
    }

    /// Tells the framework of an operation that failed, when it gave the operation an ID.
    fn told(&mut self, framework: &Arc<str>, operation: &Operation, done: Result<(), String>) {
        let Some(id) = &operation.id else { return };
        let (state, message) = match done {
            Ok(()) => (OperationState::OperationFinished, None),
            Err(fault) => (OperationState::OperationError, Some(fault)),
        };
        let status = OperationStatus {
            operation_id: Some(id.clone()),
            state: state.into(),
            message,
            ..Default::default()
        };
        let event = Event {
            r#type: Some(event::Type::UpdateOperationStatus.into()),
            update_operation_status: Some(event::UpdateOperationStatus { status }),
            ..Default::default()
        };
        self.emit_to(framework, event);
    }
}

/// The one role that all are allocated to; where none is said it is the offer's.
fn single_role<'a>(messages: &'a [Resource], offered: &'a str) -> Result<&'a str, String> {
    let mut role = None;
    for message in messages {
        let own = message.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or(offered);
        match role {
            None => role = Some(own),
            Some(first) if first != own => {
                return Err(format!(
                    "The resources have multiple allocation roles ('{own}' and '{first}') but only one allocation \
                     role is allowed"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(role.unwrap_or(offered))
}
