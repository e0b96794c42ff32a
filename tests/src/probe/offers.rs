//! Which resources of an offer a task takes, and the task that is launched with them.

use mesos_v1::{
    CommandInfo, ContainerInfo, Label, Labels, NetworkInfo, Offer, Resource, TaskId, TaskInfo,
    container_info, value,
};

use super::ProbeTask;

/// The task as it is launched with `offer`; says what the offer lacks.
pub(super) fn task_info(id: &TaskId, task: &ProbeTask, offer: &Offer) -> Result<TaskInfo, String> {
    let mut resources = take(&offer.resources, "cpus", task.cpus)?;
    resources.extend(take(&offer.resources, "mem", task.mem)?);
    let label = |(key, value): &(String, String)| Label { key: key.clone(), value: Some(value.clone()) };
    let labels =
        (!task.labels.is_empty()).then(|| Labels { labels: task.labels.iter().map(label).collect() });
    let network = task.network.as_ref().map(|name| ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        network_infos: vec![NetworkInfo { name: Some(name.clone()), labels, ..Default::default() }],
        ..Default::default()
    });
    Ok(TaskInfo {
        name: task.name.clone(),
        task_id: id.clone(),
        agent_id: offer.agent_id.clone(),
        resources,
        command: Some(CommandInfo {
            value: Some(task.command.clone()),
            uris: task.uris.clone(),
            ..Default::default()
        }),
        health_check: task.health_check.clone(),
        check: task.check.clone(),
        container: network,
        ..Default::default()
    })
}

/// Takes `wanted` of the scalar `name`, from reservations first; each part keeps the reservation
/// and allocation that it was offered with.
fn take(offered: &[Resource], name: &str, wanted: f64) -> Result<Vec<Resource>, String> {
    let usable = |r: &&Resource| r.name == name && r.revocable.is_none() && r.shared.is_none();
    let (reserved, free): (Vec<_>, Vec<_>) =
        offered.iter().filter(usable).partition(|r| !r.reservations.is_empty());
    let mut missing = wanted;
    let mut taken = Vec::new();
    for resource in reserved.into_iter().chain(free) {
        // Mesos counts in thousandths.
        if missing < 0.0005 {
            break;
        }
        let there = resource.scalar.map_or(0.0, |scalar| scalar.value);
        let part = there.min(missing);
        missing -= part;
        taken.push(Resource { scalar: Some(value::Scalar { value: part }), ..resource.clone() });
    }
    if missing < 0.0005 {
        Ok(taken)
    } else {
        Err(format!("the agent's offer has only {} of {wanted} {name}", wanted - missing))
    }
}

#[cfg(test)]
mod tests {
    use mesos_v1::resource::{AllocationInfo, ReservationInfo};

    use super::*;

    fn cpus(amount: f64, reserved: bool) -> Resource {
        let reservation = ReservationInfo { role: Some("slave_public".into()), ..Default::default() };
        Resource {
            name: "cpus".into(),
            scalar: Some(value::Scalar { value: amount }),
            allocation_info: Some(AllocationInfo { role: Some("slave_public".into()) }),
            reservations: if reserved { vec![reservation] } else { vec![] },
            ..Default::default()
        }
    }

    #[test]
    fn reservations_are_used_up_first_and_echoed() {
        let taken = take(&[cpus(1.0, false), cpus(0.5, true)], "cpus", 0.75).unwrap();
        assert_eq!(taken, [cpus(0.5, true), cpus(0.25, false)]);
        let taken = take(&[cpus(1.0, false), cpus(0.5, true)], "cpus", 0.5).unwrap();
        assert_eq!(taken, [cpus(0.5, true)]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = take(&[cpus(0.5, false)], "cpus", 1.0).unwrap_err();
        assert_eq!(error, "the agent's offer has only 0.5 of 1 cpus");
    }
}
