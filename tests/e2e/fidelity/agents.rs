//! Scenarios of agents: maintenance, a restart, deactivation and draining.

use std::time::Duration;

use mesos_v1::TaskState::TaskKilled;
use mesos_v1::master;
use mesos_v1::scheduler::{Call, call, event};

use crate::scenarios::{ALLOCATION, running};
use crate::target::Target;

pub async fn maintenance(target: &impl Target) -> Vec<String> {
    let (mut s, _) = running(target).await;
    target.set_maintenance(0, true);
    let mut inverse = None;
    s.until("inverse offers", |event| {
        inverse = inverse.clone().or(event.inverse_offers.clone());
        event.r#type() == event::Type::InverseOffers
    })
    .await;
    s.wait(ALLOCATION).await;
    s.note("declined for a long time");
    let ids =
        |offers: &event::InverseOffers| offers.inverse_offers.iter().map(|offer| offer.id.clone()).collect();
    let decline = call::DeclineInverseOffers {
        inverse_offer_ids: inverse.as_ref().map(ids).unwrap_or_default(),
        filters: Some(mesos_v1::Filters { refuse_seconds: Some(3600.0) }),
    };
    let call = Call { decline_inverse_offers: Some(decline), ..Default::default() };
    s.call(call::Type::DeclineInverseOffers, call).await;
    s.wait(ALLOCATION).await;
    s.note("revived");
    s.call(call::Type::Revive, Call::default()).await;
    s.until("inverse offers", |event| event.r#type() == event::Type::InverseOffers).await;
    s.note("ended");
    target.set_maintenance(0, false);
    s.until_offers(1).await;
    s.end().await
}

pub async fn agent_restart(target: &impl Target) -> Vec<String> {
    let (mut s, _) = running(target).await;
    // The acknowledgement arrives.
    s.wait(Duration::from_millis(500)).await;
    target.set_running(0, false);
    s.until("RESCIND", |event| event.r#type() == event::Type::Rescind).await;
    s.get_agents().await;
    s.reconcile(&[("t1", None)]).await;
    s.until_update().await;
    s.note("killed while its agent is away");
    s.kill("t1", None).await;
    s.wait(Duration::from_secs(1)).await;
    s.statuses.clear();
    target.set_running(0, true);
    s.ended("t1", TaskKilled).await;
    s.wait(ALLOCATION).await;
    s.get_agents().await;
    s.end().await
}

pub async fn draining(target: &impl Target) -> Vec<String> {
    let (mut s, offer) = running(target).await;
    let agent_id = offer.agent_id.clone();
    let deactivate = Some(master::call::DeactivateAgent { agent_id: agent_id.clone() });
    let deactivate = master::Call { deactivate_agent: deactivate, ..Default::default() };
    let reactivate = Some(master::call::ReactivateAgent { agent_id: agent_id.clone() });
    let reactivate = master::Call { reactivate_agent: reactivate, ..Default::default() };
    s.operate(master::call::Type::DeactivateAgent, deactivate).await;
    s.until("RESCIND", |event| event.r#type() == event::Type::Rescind).await;
    s.get_agents().await;
    s.operate(master::call::Type::ReactivateAgent, reactivate.clone()).await;
    s.until_offers(1).await;
    let drain = master::call::DrainAgent { agent_id, ..Default::default() };
    let drain = master::Call { drain_agent: Some(drain), ..Default::default() };
    s.operate(master::call::Type::DrainAgent, drain).await;
    s.until_update().await;
    s.get_agents().await;
    s.until_state("t1", TaskKilled).await;
    s.wait(ALLOCATION).await;
    s.get_agents().await;
    s.operate(master::call::Type::ReactivateAgent, reactivate).await;
    s.until_offers(1).await;
    s.get_agents().await;
    let id = || mesos_v1::AgentId::from("unknown");
    let unknown = master::Call {
        reactivate_agent: Some(master::call::ReactivateAgent { agent_id: id() }),
        deactivate_agent: Some(master::call::DeactivateAgent { agent_id: id() }),
        drain_agent: Some(master::call::DrainAgent { agent_id: id(), ..Default::default() }),
        mark_agent_gone: Some(master::call::MarkAgentGone { agent_id: id() }),
        ..Default::default()
    };
    for kind in [
        master::call::Type::ReactivateAgent,
        master::call::Type::DeactivateAgent,
        master::call::Type::DrainAgent,
        master::call::Type::MarkAgentGone,
    ] {
        s.operate(kind, unknown.clone()).await;
    }
    s.end().await
}
