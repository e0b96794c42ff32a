//! What goes wrong, and how it ends.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fake_master::{AgentRef, AgentSpec, End, Faults};
use mesos_v1::master::{self, call};
use mesos_v1::{DurationInfo, TaskState, TimeInfo, Unavailability};

use super::{Backup, Due, Ending, Simulation};
use crate::checks::hosts;
use crate::faults::Fault;
use crate::process::{Place, STATE_FILE};
use crate::rollouts;

/// Nothing starts on an agent from so long before its maintenance.
const LEAD: Duration = Duration::from_hours(1);

impl Simulation {
    fn host(&self, which: usize) -> AgentRef {
        AgentRef::nth(which % self.world.agents())
    }

    fn later(&mut self, wait: Duration, ending: Ending) {
        self.at(self.now + wait, Due::End(ending));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.trace.line(self.now, || format!("fault: {fault:?}"));
        let of_scheduler = matches!(fault, Fault::Crash(_) | Fault::Fuse(..) | Fault::Freeze(..));
        if let Some(rollouts) = &mut self.checks.rollouts {
            rollouts.restless |= !of_scheduler;
            rollouts.clocks_jumped |= matches!(fault, Fault::ClockJumps(..));
        }
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
                let agents = faults.agent_loss > 0;
                self.troubles.doubles = faults.call_doubles;
                self.checks.calls_late |= faults.call_delays > 0;
                self.world.set_faults(Faults { call_doubles: 0, ..*faults });
                self.later(time, Ending::Network { lossy, agents });
            }
            Fault::ClockJumps(which, by) => {
                let which = which % self.schedulers.len();
                self.schedulers[which].skew.fetch_add(by, Ordering::Relaxed);
                self.checks.clocks_jumped = true;
            }
            of_agents => self.fault_of_agents(of_agents),
        }
    }

    fn fault_of_agents(&mut self, fault: Fault) {
        match fault {
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
            Fault::Move(which, time) => {
                let name = format!("10.9.0.{}", self.sequence);
                self.readdress(self.host(which), &name, time);
            }
            Fault::Swap(one, other, time) => {
                let (one, other) = (self.host(one), self.host(other));
                let name = |host| self.world.spec(host).hostname.to_string();
                let (first, second) = (name(one), name(other));
                self.readdress(one, &second, time);
                self.readdress(other, &first, time / 2);
            }
            Fault::RackOff(part, time) => {
                for host in self.some_hosts(part) {
                    self.world.power_off(host);
                    self.later(time, Ending::Off(host));
                }
            }
            Fault::Join => {
                let number = self.world.agents();
                let spec = AgentSpec::many(number + 1).last().unwrap();
                self.world.add_agent(rollouts::housed(number, spec));
            }
            Fault::Drain(which, time) => {
                self.checks.excused.insert(self.host(which));
                self.operate(self.host(which), call::Type::DrainAgent);
                self.later(time, Ending::Operated(self.host(which)));
            }
            Fault::Deactivate(which, time) => {
                self.operate(self.host(which), call::Type::DeactivateAgent);
                self.later(time, Ending::Operated(self.host(which)));
            }
            Fault::Maintenance(which, wait, time) => {
                let host = self.host(which);
                let nanoseconds = |time: Duration| time.as_nanos().try_into().unwrap();
                let start = TimeInfo { nanoseconds: nanoseconds(self.now + wait) };
                let duration = Some(DurationInfo { nanoseconds: nanoseconds(time) });
                self.world.set_unavailability(host, Some(Unavailability { start, duration }));
                self.checks.maintained.insert(host, self.now.max((self.now + wait).saturating_sub(LEAD)));
                // It is taken back in time: nobody waits for hours.
                self.later(time, Ending::Maintained(host));
            }
            of_tasks => self.fault_of_tasks(of_tasks),
        }
    }

    fn fault_of_tasks(&mut self, fault: Fault) {
        match fault {
            Fault::Wipe(which) => {
                let agent = self.world.agent_id(self.host(which)).map(str::to_owned);
                self.mood.wiped.lock().unwrap().extend(agent);
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
                self.mood.fail.store(true, Ordering::Relaxed);
                self.later(time, Ending::TasksFail);
            }
            Fault::TasksHold(time) => {
                self.mood.hold.store(true, Ordering::Relaxed);
                self.later(time, Ending::TasksHold);
            }
            Fault::Outage(part, time) => {
                self.mood.outage.store(true, Ordering::Relaxed);
                self.check_all(1);
                for host in self.some_hosts(part) {
                    let tasks: Vec<String> =
                        self.world.tasks_on(host).map(|(task, _)| task.to_owned()).collect();
                    for task in tasks {
                        self.world.end_task(host, &task, &End::Signal("Killed".to_owned()));
                    }
                }
                self.later(time, Ending::Outage);
            }
            of_stores => self.fault_of_stores(of_stores),
        }
    }

    fn fault_of_stores(&mut self, fault: Fault) {
        match fault {
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
            Fault::Snapshot => match &self.place {
                Place::Etcd => self.backup = Some(Backup::Etcd(self.etcd.clone())),
                Place::File(disk) => self.backup = disk.surely(Path::new(STATE_FILE)).map(Backup::File),
            },
            Fault::Restore => self.restore(),
            Fault::PowerFails => self.power_fails(),
            Fault::DiskFull(time) => {
                if let Place::File(disk) = &self.place {
                    disk.set_full(true);
                    self.later(time, Ending::DiskFull);
                }
            }
            other => unreachable!("{other:?} is one of the others"),
        }
    }

    fn restore(&mut self) {
        match self.backup.clone() {
            None => return,
            Some(Backup::Etcd(backup)) => self.etcd.restore(backup, self.now),
            Some(Backup::File(backup)) => {
                // Whoever replaces it ends the scheduler first.
                (0..self.schedulers.len()).for_each(|number| self.kill(number));
                if let Place::File(disk) = &self.place {
                    disk.put(Path::new(STATE_FILE), backup);
                }
            }
        }
        self.checks.restored = true;
    }

    /// The schedulers' machine loses its power, when that is one.
    pub(super) fn power_fails(&mut self) {
        if let Place::File(disk) = self.place.clone() {
            (0..self.schedulers.len()).for_each(|number| self.kill(number));
            disk.lose_power(&mut self.random);
        }
    }

    /// A host goes, and comes with another name.
    fn readdress(&mut self, host: AgentRef, name: &str, time: Duration) {
        // Who is excluded is known by name.
        let excluded = |name: &str| self.checks.excluded.contains(name);
        if !excluded(name) && !excluded(&self.world.spec(host).hostname) {
            self.checks.excused.insert(host);
            self.world.move_agent(host, name);
            self.later(time, Ending::Off(host));
        }
    }

    /// So many of 1000 hosts.
    fn some_hosts(&mut self, part: u32) -> Vec<AgentRef> {
        let hosts = (0..self.world.agents()).map(AgentRef::nth);
        hosts.filter(|_| self.random.chance(part)).collect()
    }

    /// The checks of everything that runs exit so.
    fn check_all(&mut self, code: i32) {
        let running = |(host, task, state): (AgentRef, &str, _)| {
            (state == TaskState::TaskRunning).then(|| (host, task.to_owned()))
        };
        let all: Vec<(AgentRef, String)> = hosts(&self.world).filter_map(running).collect();
        for (host, task) in all {
            if code == 0 {
                self.world.set_health(host, &task, true);
            }
            self.world.set_check(host, &task, code);
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
            Ending::Network { lossy, agents } => {
                self.troubles.doubles = 0;
                self.world.set_faults(Faults::default());
                // TCP loses nothing without breaking; what was lost here comes to light as it does then.
                if lossy {
                    self.break_streams();
                }
                if agents {
                    self.agents_connect_anew();
                }
            }
            Ending::Partition(agent) => self.world.heal_agent(agent),
            Ending::Off(agent) => self.world.start_agent(agent),
            Ending::Operated(agent) => {
                if !self.operate(agent, call::Type::ReactivateAgent) {
                    self.later(Duration::from_secs(5), Ending::Operated(agent));
                }
            }
            Ending::Maintained(agent) => {
                self.world.set_unavailability(agent, None);
                self.checks.maintained.remove(&agent);
            }
            Ending::Check(agent, task) => drop(self.world.set_check(agent, &task, 0)),
            Ending::TasksFail => self.mood.fail.store(false, Ordering::Relaxed),
            Ending::TasksHold => self.mood.hold.store(false, Ordering::Relaxed),
            Ending::Outage => {
                self.mood.outage.store(false, Ordering::Relaxed);
                self.check_all(0);
            }
            Ending::DiskFull => {
                if let Place::File(disk) = &self.place {
                    disk.set_full(false);
                }
            }
            Ending::EtcdAway => {
                self.troubles.away = false;
                self.etcd.elect(self.now);
            }
            Ending::EtcdSlow => self.troubles.slow = Duration::ZERO,
            Ending::EtcdLossy => self.troubles.loss = 0,
            Ending::EtcdFull => self.etcd.full = false,
        }
    }

    /// As when the connections broke in which something was lost.
    fn agents_connect_anew(&mut self) {
        for host in (0..self.world.agents()).map(AgentRef::nth) {
            if self.world.is_running(host) {
                self.world.stop_agent(host);
                self.world.start_agent(host);
            }
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
