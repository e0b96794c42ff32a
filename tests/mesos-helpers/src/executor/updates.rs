//! Status updates that the agent has not acknowledged.

use mesos_v1::{TaskStatus, executor::call::Update};

/// The updates in the order in which they arose.
#[derive(Debug, Default)]
pub struct Unacknowledged(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    status: TaskStatus,
    /// Sent over, or with, the subscription that is there now.
    sent: bool,
}

impl Unacknowledged {
    /// Keeps a new update; it is sent later.
    pub fn push(&mut self, status: TaskStatus) {
        self.0.push(Entry { status, sent: false });
    }

    /// All updates, for a SUBSCRIBE call; they count as sent.
    pub fn for_subscribe(&mut self) -> Vec<Update> {
        let update = |entry: &mut Entry| {
            entry.sent = true;
            Update { status: entry.status.clone() }
        };
        self.0.iter_mut().map(update).collect()
    }

    /// The updates that are not sent yet; they count as sent.
    pub fn take_unsent(&mut self) -> Vec<Update> {
        let unsent = self.0.iter_mut().filter(|entry| !entry.sent);
        unsent
            .map(|entry| {
                entry.sent = true;
                Update { status: entry.status.clone() }
            })
            .collect()
    }

    /// Removes the update with this UUID; `None` when there is none.
    pub fn acknowledge(&mut self, uuid: &[u8]) -> Option<TaskStatus> {
        let position = self.0.iter().position(|entry| entry.status.uuid() == uuid)?;
        Some(self.0.remove(position).status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uuid: &'static str) -> TaskStatus {
        TaskStatus { uuid: Some(uuid.into()), ..Default::default() }
    }

    #[test]
    fn updates_are_sent_once_for_each_subscription_and_kept_until_acknowledged() {
        let mut updates = Unacknowledged::default();
        updates.push(status("a"));
        assert_eq!(updates.for_subscribe().len(), 1);
        updates.push(status("b"));
        let unsent = updates.take_unsent();
        assert_eq!(unsent[0].status, status("b"));
        assert!(updates.take_unsent().is_empty());

        assert_eq!(updates.for_subscribe().len(), 2);
        assert_eq!(updates.acknowledge(b"a"), Some(status("a")));
        assert_eq!(updates.acknowledge(b"a"), None);
        assert_eq!(updates.for_subscribe().len(), 1);
    }
}
