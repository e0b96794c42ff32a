//! What schedulers ask of others on its way there, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use fake_master::Happening;
use mesos_v1::master::{self, call};
use mesos_v1::scheduler;
use tokio::sync::{mpsc, oneshot};

use super::{Due, Origin, Simulation};
use crate::checks::Sender;
use crate::etcd;
use crate::process::Place;
use crate::stored::{self, Stored};
use crate::wire::{Posted, Reply, Request};

impl Simulation {
    /// A request begins its way: when it arrives.
    pub(super) fn posted(&mut self, origin: Origin, posted: Posted) -> Duration {
        let Posted { at, request, reply } = posted;
        self.trace.line(at, || format!("{origin:?} asks {request:?}"));
        if let Request::Call { call, .. } | Request::Subscribe(call) = &request {
            let process = self.schedulers[origin.0].process.as_ref();
            let name = process.map(|process| process.name.clone()).unwrap_or_default();
            self.checks.acts(self.runs[&origin], origin);
            let stored = Stored::of(&self.place, &self.etcd);
            self.checks.call(Sender { name: &name, at }, call, stored, &self.world);
            if let (scheduler::call::Type::Subscribe, Some(rollouts)) =
                (call.r#type(), &mut self.checks.rollouts)
            {
                rollouts.informed(origin, None);
            }
            if call.r#type() == scheduler::call::Type::Accept {
                (self.launched, self.look) = (self.now, self.now);
            }
        }
        let arrives = (at + self.latency(&request)).max(self.now);
        self.at(arrives, Due::Request(origin, request, reply));
        arrives
    }

    fn latency(&mut self, request: &Request) -> Duration {
        let usual = self.random.between(Duration::from_millis(1), Duration::from_millis(4));
        match request {
            Request::Etcd(_) => usual + self.random.between(Duration::ZERO, self.troubles.slow / 2),
            _ => usual,
        }
    }

    pub(super) fn due(&mut self, due: Due) {
        match due {
            Due::Request(origin, request, reply) => self.arrived(origin, request, reply),
            Due::Reply(origin, sender, reply) => self.reply(origin, sender, reply),
            Due::Hangup(stream) => self.world.disconnect(&stream),
            Due::Fault(fault) => self.fault(fault),
            Due::End(ending) => self.end(ending),
            Due::Reconfigure(number) => self.reconfigure(number),
            Due::Command => self.operator_commands(),
        }
    }

    fn arrived(&mut self, origin: Origin, request: Request, reply: oneshot::Sender<Reply>) {
        match request {
            Request::Etcd(request) => self.etcd_request(origin, request, reply),
            Request::Hangup { stream } => {
                self.streams.remove(&stream);
                self.world.disconnect(&stream);
            }
            Request::LastWords(task) => {
                let words = self.random.chance(700).then(|| format!("the last words of {task}"));
                let late = self.random.between(Duration::from_millis(1), Duration::from_secs(2));
                self.at(self.now + late, Due::Reply(origin, reply, Reply::LastWords(words)));
            }
            Request::Agents => {
                let dead = self.world.operator(&master::Call {
                    r#type: Some(call::Type::GetHealth.into()),
                    ..Default::default()
                });
                if !self.master_away {
                    let agents = dead.is_ok().then(|| self.world.get_agents());
                    if let Some(agents) = &agents {
                        self.checks.listed(origin, self.now, agents);
                    }
                    let late = self.random.between(Duration::from_millis(1), Duration::from_secs(1));
                    self.at(self.now + late, Due::Reply(origin, reply, Reply::Agents(agents)));
                }
            }
            // No packet of it arrives; the process gives it up some time.
            Request::Subscribe(_) | Request::Call { .. } if self.master_away => {}
            Request::Subscribe(call) => {
                let id = self.world.send(None, *call);
                self.calls.insert(id, (origin, true, reply));
            }
            Request::Call { stream, call } => {
                // Twice: as with a client that tries again. A launch cannot be: the second would be refused, and both
                // would be told to be of one task.
                if call.r#type() != scheduler::call::Type::Accept && self.random.chance(self.troubles.doubles)
                {
                    self.world.send(Some(&stream), (*call).clone());
                }
                let id = self.world.send(Some(&stream), *call);
                self.calls.insert(id, (origin, false, reply));
            }
        }
    }

    fn etcd_request(&mut self, origin: Origin, request: etcd::Request, reply: oneshot::Sender<Reply>) {
        if self.troubles.away {
            // Nobody answers, or nobody listens.
            if self.random.chance(500) {
                let refused = Reply::Etcd(Err(etcd::away("connection refused")));
                self.at(self.now + Duration::from_millis(1), Due::Reply(origin, reply, refused));
            }
            return;
        }
        if self.random.chance(self.troubles.loss) {
            return;
        }
        let answer = self.etcd.handle(self.now, request);
        self.checks.acts(self.runs[&origin], origin);
        self.checks.stored(self.now, stored::in_etcd(&self.etcd), &self.world);
        self.trace.line(self.now, || format!("etcd answers {origin:?} {answer:?}"));
        if !self.random.chance(self.troubles.loss) {
            let usual = self.random.between(Duration::from_millis(1), Duration::from_millis(4));
            let late = usual + self.random.between(Duration::ZERO, self.troubles.slow / 2);
            self.at(self.now + late, Due::Reply(origin, reply, Reply::Etcd(answer)));
        }
    }

    /// An answer reaches the process that asked, if it still lives.
    fn reply(&mut self, (number, incarnation): Origin, sender: oneshot::Sender<Reply>, reply: Reply) {
        let scheduler = &mut self.schedulers[number];
        if scheduler.incarnation == incarnation && scheduler.process.is_some() {
            self.trace.line(self.now, || format!("{:?} is told {reply:?}", (number, incarnation)));
            // It may wait no longer.
            let _ = sender.send(reply);
            scheduler.told = true;
        }
    }

    pub(super) fn happening(&mut self, happening: Happening) {
        self.trace.line(self.now, || format!("{happening:?}"));
        match happening {
            Happening::Event { stream, event } => {
                if self.master_away {
                    return;
                }
                self.checks.event(&event, self.now);
                if let Some((origin, sender)) = self.streams.get(&stream) {
                    let _ = sender.send(*event);
                    self.schedulers[origin.0].told = true;
                }
            }
            Happening::Closed { stream } => {
                if let Some((origin, _)) = self.streams.remove(&stream) {
                    self.schedulers[origin.0].told = true;
                }
            }
            Happening::Answered { call, answer } => {
                let Some((origin, subscribes, reply)) = self.calls.remove(&call) else { return };
                let reply_with = match &answer.stream {
                    Some(stream) if subscribes => {
                        let (sender, receiver) = mpsc::unbounded_channel();
                        let (number, incarnation) = origin;
                        let lives = self.schedulers[number].process.is_some()
                            && self.schedulers[number].incarnation == incarnation;
                        if lives {
                            self.streams.insert(Arc::clone(stream), (origin, sender));
                        } else {
                            self.at(self.now, Due::Hangup(Arc::clone(stream)));
                        }
                        Reply::Subscribed(answer, receiver)
                    }
                    _ if subscribes => Reply::Unanswered,
                    _ => Reply::Answered(answer),
                };
                self.reply(origin, reply, reply_with);
            }
            Happening::Unanswered { call } => {
                if let Some((origin, _, reply)) = self.calls.remove(&call) {
                    self.reply(origin, reply, Reply::Unanswered);
                }
            }
        }
    }

    /// A scheduler's process has written to its disk.
    pub(super) fn kept(&mut self, origin: Origin) {
        let Place::File(disk) = &self.place else { return };
        for (at, file) in disk.kept() {
            self.trace.line(at, || {
                let pairs = stored::in_file(&file);
                let texts = pairs.map(|(key, value)| format!("{key} {}", String::from_utf8_lossy(&value)));
                format!("{origin:?} keeps\n{}", texts.collect::<Vec<_>>().join("\n"))
            });
            if self.checks.rollouts.is_some() {
                self.checks.acts(self.runs[&origin], origin);
                self.checks.stored(at, stored::in_file(&file), &self.world);
            }
        }
    }
}
