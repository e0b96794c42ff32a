//! Whether we may act: leadership is certain until a deadline, which each renewal of the lease moves on.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Asked before everything that has an effect, at the last moment. Its clock runs on while the process is stopped
/// (SIGSTOP, a debugger) and while the machine is suspended: one that was frozen past its deadline finds it over, before
/// it hears so from anyone. Two things it does not see: a virtual machine that its host pauses without telling it, where
/// no clock of the guest moves; and a stop between the question and the write that follows it. What is sent then comes
/// too late: etcd refuses the transaction, and Mesos a call of a stream that is no longer the framework's. A SUBSCRIBE
/// alone would be taken, and end the other one's subscription, once.
#[derive(Debug, Clone)]
pub struct Tenure {
    /// None is for ever: a lock that lasts as long as the process.
    deadline: Option<watch::Receiver<Moment>>,
}

/// Moves a tenure's deadline.
#[derive(Debug)]
pub(crate) struct Renewal(watch::Sender<Moment>);

/// A moment by the monotonic clock, and how long the machine had been suspended by then, which that clock leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    at: Instant,
    suspended: Duration,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), suspended: suspended().0 }
    }

    /// So much later.
    pub fn after(self, wait: Duration) -> Self {
        Self { at: self.at + wait, ..self }
    }

    fn is_over(self) -> bool {
        self.is_over_at(Instant::now(), suspended().1)
    }

    fn is_over_at(self, now: Instant, suspended: Duration) -> bool {
        now + suspended.saturating_sub(self.suspended) >= self.at
    }
}

/// How long the machine has been suspended since it was started: at least, and at most. The two clocks cannot be read
/// at once.
fn suspended() -> (Duration, Duration) {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    let before = read(ClockId::Monotonic);
    let boot = read(ClockId::Boottime);
    let after = read(ClockId::Monotonic);
    (boot.saturating_sub(after), boot.saturating_sub(before))
}

impl Tenure {
    /// One that does not end.
    pub fn endless() -> Self {
        Self { deadline: None }
    }

    /// One that ends at `deadline` unless it is renewed.
    pub(crate) fn until(deadline: Moment) -> (Self, Renewal) {
        let (sender, receiver) = watch::channel(deadline);
        (Self { deadline: Some(receiver) }, Renewal(sender))
    }

    /// Whether we may act now.
    pub fn holds(&self) -> bool {
        self.deadline.as_ref().is_none_or(|deadline| !deadline.borrow().is_over())
    }

    /// Returns when we may act no more; late when the machine was suspended, so what has an effect asks for itself.
    pub async fn ended(&self) {
        let Some(deadline) = &self.deadline else { return std::future::pending().await };
        let mut deadline = deadline.clone();
        while self.holds() {
            let until = deadline.borrow_and_update().at;
            tokio::select! {
                () = sleep_until(until) => {}
                changed = deadline.changed() => {
                    if changed.is_err() {
                        // Nobody renews it any more: it runs out.
                        sleep_until(until).await;
                    }
                }
            }
        }
    }
}

impl Renewal {
    /// Moves the deadline. What is over stays over: whoever asked may have stopped already.
    pub fn extend(&self, deadline: Moment) {
        self.0.send_if_modified(|present| {
            let renewed = !present.is_over() && present.at < deadline.at;
            if renewed {
                *present = deadline;
            }
            renewed
        });
    }

    /// Ends it now.
    pub fn end(&self) {
        self.0.send_replace(Moment::now());
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.0.borrow().is_over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_at_its_deadline_and_is_not_revived() {
        let soon = Moment::now().after(Duration::from_millis(50));
        let (tenure, renewal) = Tenure::until(soon);
        assert!(tenure.holds());
        renewal.extend(soon.after(Duration::from_millis(50)));
        tenure.ended().await;
        assert!(Instant::now() >= soon.at + Duration::from_millis(50) && !tenure.holds());
        renewal.extend(Moment::now().after(Duration::from_secs(9)));
        assert!(!tenure.holds() && renewal.is_over());
    }

    #[tokio::test]
    async fn it_can_be_ended() {
        let (tenure, renewal) = Tenure::until(Moment::now().after(Duration::from_mins(1)));
        let waits = tokio::spawn(async move { tenure.ended().await });
        renewal.end();
        waits.await.unwrap();
        assert!(Tenure::endless().holds());
    }

    #[tokio::test]
    async fn the_time_that_the_machine_was_suspended_counts() {
        let begin = Moment::now();
        let deadline = begin.after(Duration::from_secs(10));
        let later = |awake, suspended| {
            deadline.is_over_at(
                begin.at + Duration::from_secs(awake),
                begin.suspended + Duration::from_secs(suspended),
            )
        };
        assert!(!later(9, 0) && !later(5, 4));
        assert!(later(10, 0) && later(5, 5) && later(0, 3600));
        // This machine's clocks: what cannot be told apart is short.
        let (least, most) = suspended();
        assert!(least <= most && most < least + Duration::from_secs(5), "{least:?} {most:?}");
    }
}
