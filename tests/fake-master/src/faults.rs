//! Between schedulers and master: calls and events that are late, lost, doubled or out of order.

use std::sync::Arc;
use std::time::Duration;

use mesos_v1::scheduler::{Call, Event};

use crate::settings::Time;
use crate::world::{Answer, CallId, Happening, Timer, World};

/// How often what goes wrong, in thousandths of the cases. Nothing does by default.
///
/// A real master does nothing of [`event_loss`](Self::event_loss), [`event_doubles`](Self::event_doubles) and
/// [`event_reorders`](Self::event_reorders): TCP keeps streams whole. Schedulers stay right under them all the same.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Calls that do not reach the master: unanswered.
    pub call_loss: u32,
    /// Calls that do reach it, and are unanswered.
    pub answer_loss: u32,
    /// Calls that reach it twice.
    pub call_doubles: u32,
    /// Calls that are late.
    pub call_delays: u32,
    /// Events that are not delivered.
    pub event_loss: u32,
    /// Events that are delivered twice.
    pub event_doubles: u32,
    /// Events that are late; those after them on their stream are, too.
    pub event_delays: u32,
    /// Events that are late, and overtaken.
    pub event_reorders: u32,
    /// Events with which the stream breaks.
    pub stream_breaks: u32,
    /// Messages between master and agents, in either direction, that are lost.
    pub agent_loss: u32,
    /// The longest that something is late.
    pub delay: Duration,
}

/// What is on its way.
#[derive(Debug, Default)]
pub struct Network {
    /// The calls that were sent.
    calls: u64,
    /// When the last event of a stream is delivered, when that is later than now.
    late: Vec<(Arc<str>, Time)>,
}

impl Faults {
    fn touch_events(&self) -> bool {
        self.event_loss + self.event_doubles + self.event_delays + self.event_reorders + self.stream_breaks
            > 0
    }
}

impl World {
    /// From now on this goes wrong.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Sends a call with the `Mesos-Stream-Id` that it has. It is carried out, and its answer told, while time passes:
    /// by [`Self::advance`], at once when nothing is set to go wrong.
    pub fn send(&mut self, stream: Option<&str>, call: Call) -> CallId {
        self.network.calls += 1;
        let id = CallId(self.network.calls);
        let mut wait = Duration::ZERO;
        if self.random.chance(self.faults.call_delays) {
            wait = self.random.between(Duration::ZERO, self.faults.delay);
        }
        if self.random.chance(self.faults.call_loss) {
            self.after(wait, Timer::Deliver(Box::new(Happening::Unanswered { call: id })));
            return id;
        }
        let answered = !self.random.chance(self.faults.answer_loss);
        let stream: Option<Arc<str>> = stream.map(Into::into);
        if self.random.chance(self.faults.call_doubles) {
            let (stream, call) = (stream.clone(), Box::new(call.clone()));
            let later = wait + self.random.between(Duration::ZERO, self.faults.delay);
            // The answer to this one has nobody to read it.
            self.after(later, Timer::Call { id: CallId(0), stream, call, answered: false });
        }
        self.after(wait, Timer::Call { id, stream, call: Box::new(call), answered });
        id
    }

    pub(crate) fn arrived(&mut self, id: CallId, stream: Option<&str>, call: &Call, answered: bool) {
        // The head of an answer is there before the events of its stream.
        let position = self.out.len();
        let answer = if self.master.leads { Some(self.call(stream, call)) } else { None };
        match answer {
            Some(answer) if answered => {
                self.out.insert(position, (self.now, Happening::Answered { call: id, answer }));
            }
            lost => {
                if id != CallId(0) {
                    self.out.push_back((self.now, Happening::Unanswered { call: id }));
                }
                // Nobody reads a stream whose head was lost.
                if let Some(Answer { stream: Some(stream), .. }) = lost {
                    self.disconnect(&stream);
                }
            }
        }
    }

    fn touches_events(&self) -> bool {
        self.faults.touch_events() || !self.network.late.is_empty()
    }

    /// Sends an event on a stream.
    pub(crate) fn emit(&mut self, stream: &Arc<str>, event: Event) {
        let happening = Happening::Event { stream: Arc::clone(stream), event: Box::new(event) };
        if !self.touches_events() {
            self.out.push_back((self.now, happening));
            return;
        }
        if self.random.chance(self.faults.stream_breaks) {
            let stream = Arc::clone(stream);
            self.break_stream(&stream);
            return;
        }
        if self.random.chance(self.faults.event_loss) {
            return;
        }
        if self.random.chance(self.faults.event_doubles) {
            self.deliver(stream, happening.clone());
        }
        if self.random.chance(self.faults.event_reorders) {
            let late = self.random.between(Duration::ZERO, self.faults.delay);
            self.after(late, Timer::Deliver(Box::new(happening)));
            return;
        }
        self.deliver(stream, happening);
    }

    /// Ends a stream from the master's side.
    pub(crate) fn close(&mut self, stream: &Arc<str>) {
        let closed = Happening::Closed { stream: Arc::clone(stream) };
        if self.touches_events() {
            self.deliver(stream, closed);
        } else {
            self.out.push_back((self.now, closed));
        }
    }

    /// In the order of its stream.
    fn deliver(&mut self, stream: &Arc<str>, happening: Happening) {
        let now = self.now;
        self.network.late.retain(|(_, at)| *at >= now);
        let mut at = now;
        if self.random.chance(self.faults.event_delays) {
            at += self.random.between(Duration::ZERO, self.faults.delay);
        }
        match self.network.late.iter_mut().find(|(late, _)| late == stream) {
            Some((_, last)) => {
                at = at.max(*last);
                *last = at;
            }
            None if at > now => self.network.late.push((Arc::clone(stream), at)),
            None => {}
        }
        self.at(at, Timer::Deliver(Box::new(happening)));
    }
}
