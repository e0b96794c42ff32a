//! Scenarios of what goes wrong: an agent that cannot be reached, one that is given up, one that is built anew, and a
//! master that dies.

use mesos_v1::TaskState::{TaskKilled, TaskRunning, TaskUnreachable};
use mesos_v1::master;
use mesos_v1::scheduler::event;

use crate::scenarios::{ALLOCATION, running};
use crate::target::Target;

pub async fn unreachable(target: &impl Target) -> Vec<String> {
    let (mut s, offer) = running(target).await;
    let agent = offer.agent_id.value.clone();
    target.set_reachable(0, false);
    s.until_state("t1", TaskUnreachable).await;
    s.get_agents().await;
    s.note("with and without its agent");
    s.reconcile(&[("t1", Some(&agent))]).await;
    s.until_update().await;
    s.reconcile(&[("t1", None)]).await;
    s.until_update().await;
    s.note("all");
    s.reconcile(&[]).await;
    s.wait(ALLOCATION).await;
    s.note("back");
    s.statuses.clear();
    target.set_reachable(0, true);
    s.until_update_and_offers(TaskRunning).await;
    s.reconcile(&[("t1", Some(&agent))]).await;
    s.until_update().await;
    s.get_agents().await;
    s.kill("t1", None).await;
    s.ended("t1", TaskKilled).await;
    s.end().await
}

pub async fn gone(target: &impl Target) -> Vec<String> {
    let (mut s, offer) = running(target).await;
    let agent = offer.agent_id.clone();
    let call = master::Call {
        mark_agent_gone: Some(master::call::MarkAgentGone { agent_id: agent.clone() }),
        ..Default::default()
    };
    s.operate(master::call::Type::MarkAgentGone, call.clone()).await;
    s.until_update().await;
    s.get_agents().await;
    s.reconcile(&[("t1", Some(&agent.value))]).await;
    s.until_update().await;
    s.note("all");
    s.reconcile(&[]).await;
    s.wait(ALLOCATION).await;
    s.operate(master::call::Type::MarkAgentGone, call).await;
    s.note("another one at its address");
    target.rebuild(0);
    s.until_offers(1).await;
    s.get_agents().await;
    s.end().await
}

pub async fn rebuilt(target: &impl Target) -> Vec<String> {
    let (mut s, offer) = running(target).await;
    let agent = offer.agent_id.value.clone();
    target.rebuild(0);
    s.until("RESCIND", |event| event.r#type() == event::Type::Rescind).await;
    s.until_offers(1).await;
    s.note("the task of before");
    s.reconcile(&[("t1", Some(&agent))]).await;
    s.until_update().await;
    s.reconcile(&[("t1", None)]).await;
    s.until_update().await;
    s.get_agents().await;
    s.end().await
}

pub async fn failover(target: &impl Target) -> Vec<String> {
    let (mut s, offer) = running(target).await;
    let agent = offer.agent_id.value.clone();
    // The acknowledgement arrives.
    s.wait(ALLOCATION).await;
    target.set_running(0, false);
    s.until("RESCIND", |event| event.r#type() == event::Type::Rescind).await;
    target.fail_over();
    s.until_end().await;
    s.until_agents(1, 1).await;
    s.get_agents().await;
    s.subscribe().await;
    s.note("a task of an agent that is not registered again, of one that is, and all");
    s.reconcile(&[("t1", Some(&agent))]).await;
    s.wait(ALLOCATION).await;
    s.reconcile(&[("t1", None)]).await;
    s.wait(ALLOCATION).await;
    s.reconcile(&[("never", None)]).await;
    s.wait(ALLOCATION).await;
    s.reconcile(&[]).await;
    s.wait(ALLOCATION).await;
    s.note("back");
    target.set_running(0, true);
    s.until_offers(1).await;
    s.reconcile(&[("t1", Some(&agent))]).await;
    s.until_update().await;
    s.get_agents().await;
    s.kill("t1", None).await;
    s.ended("t1", TaskKilled).await;
    s.end().await
}
