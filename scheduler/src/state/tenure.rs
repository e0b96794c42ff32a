//! Whether we may act: leadership is certain until a deadline, which each renewal of the lease moves on.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Asked before everything that has an effect. The clock is monotonic and runs on while the process is stopped: one
/// that was frozen past its deadline finds it over, before it hears so from anyone.
#[derive(Debug, Clone)]
pub struct Tenure {
    /// None is for ever: a lock that lasts as long as the process.
    deadline: Option<watch::Receiver<Instant>>,
}

/// Moves a tenure's deadline.
#[derive(Debug)]
pub(super) struct Renewal(watch::Sender<Instant>);

impl Tenure {
    /// One that does not end.
    pub fn endless() -> Self {
        Self { deadline: None }
    }

    /// One that ends at `deadline` unless it is renewed.
    pub(super) fn until(deadline: Instant) -> (Self, Renewal) {
        let (sender, receiver) = watch::channel(deadline);
        (Self { deadline: Some(receiver) }, Renewal(sender))
    }

    /// Whether we may act now.
    pub fn holds(&self) -> bool {
        self.deadline.as_ref().is_none_or(|deadline| Instant::now() < *deadline.borrow())
    }

    /// Returns when we may act no more.
    pub async fn ended(&self) {
        let Some(deadline) = &self.deadline else { return std::future::pending().await };
        let mut deadline = deadline.clone();
        while self.holds() {
            let until = *deadline.borrow_and_update();
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
    pub fn extend(&self, deadline: Instant) {
        self.0.send_if_modified(|present| {
            let renewed = Instant::now() < *present && *present < deadline;
            if renewed {
                *present = deadline;
            }
            renewed
        });
    }

    /// Ends it now.
    pub fn end(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        *self.0.borrow() <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_ends_at_its_deadline_and_is_not_revived() {
        let soon = Instant::now() + Duration::from_millis(50);
        let (tenure, renewal) = Tenure::until(soon);
        assert!(tenure.holds());
        renewal.extend(soon + Duration::from_millis(50));
        tenure.ended().await;
        assert!(Instant::now() >= soon + Duration::from_millis(50) && !tenure.holds());
        renewal.extend(Instant::now() + Duration::from_secs(9));
        assert!(!tenure.holds() && renewal.is_over());
    }

    #[tokio::test]
    async fn it_can_be_ended() {
        let (tenure, renewal) = Tenure::until(Instant::now() + Duration::from_mins(1));
        let waits = tokio::spawn(async move { tenure.ended().await });
        renewal.end();
        waits.await.unwrap();
        assert!(Tenure::endless().holds());
    }
}
