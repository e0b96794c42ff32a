//! What goes wrong, and how it ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fake_master::{AgentRef, AgentSpec, Faults};
use mesos_v1::master::{self, call};

use super::{Due, Ending, Simulation};
use crate::faults::Fault;

impl Simulation {
    fn host(&self, which: usize) -> AgentRef {
        AgentRef::nth(which % self.world.agents())
    }

    fn later(&mut self, wait: Duration, ending: Ending) {
        self.at(self.now + wait, Due::End(ending));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.trace.line(self.now, || format!("fault: {fault:?}"));
        match fault {
            Fault::Crash(which) => self.kill(which % self.schedulers.len()),
            Fault::Fuse(which, fuse) => {
                let which = which % self.schedulers.len();
                if let Some(process) = &self.schedulers[which].process {
                    process.set_fuse(fuse);
                }
            }
            Fault::Freeze(which, time) => {
                let which = which % self.schedulers.len();
                self.schedulers[which].frozen = Some(self.now + time);
            }
            Fault::MasterDies(time) => {
                self.world.kill_master();
                self.later(time, Ending::MasterDead);
            }
            Fault::MasterAway(time) => {
                self.master_away = true;
                self.later(time, Ending::MasterAway);
            }
            Fault::Network(faults, time) => {
                let lossy = faults.event_loss + faults.event_reorders > 0;
                self.troubles.doubles = faults.call_doubles;
                self.world.set_faults(Faults { call_doubles: 0, ..*faults });
                self.later(time, Ending::Network { lossy });
            }
            Fault::Partition(which, time) => {
                self.world.partition_agent(self.host(which));
                self.later(time, Ending::Partition(self.host(which)));
            }
            Fault::Stop(which, time) => {
                self.world.stop_agent(self.host(which));
                self.later(time, Ending::Off(self.host(which)));
            }
            Fault::PowerOff(which, time) => {
                self.world.power_off(self.host(which));
                // One host remains.
                let remains = self.host(which) == AgentRef::nth(1);
                if let Some(time) = time.or(remains.then_some(Duration::from_mins(1))) {
                    self.later(time, Ending::Off(self.host(which)));
                }
            }
            Fault::Rebuild(which, time) => {
                self.world.rebuild_agent(self.host(which));
                self.later(time, Ending::Off(self.host(which)));
            }
            Fault::Join => {
                let spec = AgentSpec::many(self.world.agents() + 1).last().unwrap();
                self.world.add_agent(spec);
            }
            Fault::Drain(which, time) => {
                self.operate(self.host(which), call::Type::DrainAgent);
                self.later(time, Ending::Operated(self.host(which)));
            }
            Fault::Deactivate(which, time) => {
                self.operate(self.host(which), call::Type::DeactivateAgent);
                self.later(time, Ending::Operated(self.host(which)));
            }
            Fault::TaskEnds(which, task, end) => {
                if let Some((host, task)) = self.task(which, task) {
                    self.world.end_task(host, &task, &end);
                }
            }
            Fault::CheckFails(which, task, time) => {
                if let Some((host, task)) = self.task(which, task) {
                    self.world.set_check(host, &task, 1);
                    self.later(time, Ending::Check(host, task));
                }
            }
            Fault::TasksFail(time) => {
                self.tasks_fail.store(true, Ordering::Relaxed);
                self.later(time, Ending::TasksFail);
            }
            Fault::EtcdAway(time) => {
                self.troubles.away = true;
                self.later(time, Ending::EtcdAway);
            }
            Fault::EtcdSlow(slow, time) => {
                self.troubles.slow = slow;
                self.later(time, Ending::EtcdSlow);
            }
            Fault::EtcdLossy(loss, time) => {
                self.troubles.loss = loss;
                self.later(time, Ending::EtcdLossy);
            }
            Fault::EtcdFull(time) => {
                self.etcd.full = true;
                self.later(time, Ending::EtcdFull);
            }
            Fault::EtcdSnapshot => self.backup = Some(self.etcd.clone()),
            Fault::EtcdRestore => {
                if let Some(backup) = self.backup.clone() {
                    self.etcd.restore(backup, self.now);
                    self.checks.restored = true;
                }
            }
        }
    }

    fn task(&self, which: usize, task: usize) -> Option<(AgentRef, String)> {
        let host = self.host(which);
        let (task, _) = self.world.tasks_on(host).nth(task)?;
        Some((host, task.to_owned()))
    }

    pub(super) fn end(&mut self, ending: Ending) {
        match ending {
            Ending::MasterDead => self.world.elect_master(),
            Ending::MasterAway => {
                self.master_away = false;
                self.break_streams();
            }
            Ending::Network { lossy } => {
                self.troubles.doubles = 0;
                self.world.set_faults(Faults::default());
                // TCP loses nothing without breaking; what was lost here comes to light as it does then.
                if lossy {
                    self.break_streams();
                }
            }
            Ending::Partition(agent) => self.world.heal_agent(agent),
            Ending::Off(agent) => self.world.start_agent(agent),
            Ending::Operated(agent) => {
                if !self.operate(agent, call::Type::ReactivateAgent) {
                    self.later(Duration::from_secs(5), Ending::Operated(agent));
                }
            }
            Ending::Check(agent, task) => drop(self.world.set_check(agent, &task, 0)),
            Ending::TasksFail => self.tasks_fail.store(false, Ordering::Relaxed),
            Ending::EtcdAway => {
                self.troubles.away = false;
                self.etcd.elect(self.now);
            }
            Ending::EtcdSlow => self.troubles.slow = Duration::ZERO,
            Ending::EtcdLossy => self.troubles.loss = 0,
            Ending::EtcdFull => self.etcd.full = false,
        }
    }

    fn break_streams(&mut self) {
        for stream in self.streams.keys().cloned().collect::<Vec<_>>() {
            self.world.break_stream(&stream);
        }
    }

    /// An operator's call about an agent: whether it needs no repetition.
    fn operate(&mut self, agent: AgentRef, kind: call::Type) -> bool {
        let Some(id) = self.world.agent_id(agent).map(mesos_v1::AgentId::from) else { return true };
        let mut operation = master::Call { r#type: Some(kind.into()), ..Default::default() };
        match kind {
            call::Type::DrainAgent => {
                operation.drain_agent = Some(call::DrainAgent { agent_id: id, ..Default::default() });
            }
            call::Type::DeactivateAgent => {
                operation.deactivate_agent = Some(call::DeactivateAgent { agent_id: id });
            }
            _ => operation.reactivate_agent = Some(call::ReactivateAgent { agent_id: id }),
        }
        !matches!(self.world.operator(&operation), Err((503, _)))
    }

    /// What still goes wrong ends.
    pub(super) fn mend(&mut self) {
        self.trace.line(self.now, || "everything is mended".to_owned());
        let mut endings = Vec::new();
        self.queue.retain(|_, due| match due {
            Due::Fault(_) => false,
            Due::End(_) => {
                endings.push(std::mem::replace(due, Due::End(Ending::TasksFail)));
                false
            }
            _ => true,
        });
        for ending in endings {
            self.due(ending);
        }
        for scheduler in &mut self.schedulers {
            scheduler.frozen = scheduler.frozen.map(|until| until.min(self.now));
        }
    }
}
