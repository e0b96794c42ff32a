//! Reads the list of agents beside the loop: now and then, and when it is wanted.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use super::Inventory;
use crate::core::Input;
use crate::mesos::Link;

/// After a failed reading: nothing is launched before there is one.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest pause between two readings, whoever wants them.
const PAUSE: Duration = Duration::from_secs(1);
/// A reading is followed by a pause of so many times what it took: the master makes the list of all agents in one go, and
/// does nothing else meanwhile.
const SHARE: u32 = 10;

/// Reads the list, again and again: one reading at a time, so that none is overtaken by an older one.
pub(super) async fn read_inventory(
    interval: Duration,
    wanted: Arc<Notify>,
    link: impl Link,
    inputs: mpsc::Sender<Input>,
    read: watch::Sender<Inventory>,
) {
    let mut wait = interval;
    let mut rested = Instant::now();
    loop {
        // Wanted now or due: the same is done.
        let _ = timeout(wait, wanted.notified()).await;
        sleep_until(rested).await;
        // Whoever wanted it until now gets this one.
        let _ = wanted.notified().now_or_never();
        wait = interval;
        let Some(leader) = link.leader() else { continue };
        let began = Instant::now();
        let agents = link.agents(&leader).await;
        rested = Instant::now() + (began.elapsed() * SHARE).min(interval).max(PAUSE);
        let agents = match agents {
            Ok(agents) => agents,
            Err(error) => {
                warn!("cannot read the list of agents: {error}");
                read.send_modify(|inventory| inventory.error = Some(error.to_string()));
                wait = interval.min(AGAIN);
                continue;
            }
        };
        read.send_replace(Inventory { read: Some(Instant::now()), error: None });
        // A master that no longer leads does not know which agents there are.
        if link.leader().as_ref() == Some(&leader) && inputs.send(Input::Agents(agents)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mesos_v1::scheduler::Call;
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;
    use crate::config::Server;
    use crate::core::{Agent, AgentKey, FrameworkId, TaskId};
    use crate::mesos::{OperatorError, StreamNumber};

    /// A master that takes its time for the list, and notes when it was asked for.
    #[derive(Debug, Clone)]
    struct Slow {
        takes: Duration,
        asked: Arc<Mutex<Vec<Instant>>>,
    }

    impl Link for Slow {
        async fn send(&self, _: StreamNumber, _: Call) {}

        fn leader(&self) -> Option<Server> {
            Some(Server { tls: false, authority: "m:5050".into() })
        }

        async fn agents(&self, _: &Server) -> Result<Vec<Agent>, OperatorError> {
            self.asked.lock().unwrap().push(Instant::now());
            sleep(self.takes).await;
            Ok(vec![])
        }

        async fn last_words(&self, _: &AgentKey, _: &FrameworkId, _: &TaskId) -> Option<String> {
            None
        }
    }

    /// When the list is read in a minute in which it is always wanted.
    async fn readings(takes: Duration) -> Vec<Duration> {
        let (inputs, mut lists) = mpsc::channel(1000);
        let (read, _seen) = watch::channel(Inventory::default());
        let (wanted, asked) = (Arc::new(Notify::new()), Arc::default());
        let link = Slow { takes, asked: Arc::clone(&asked) };
        let mut tasks = JoinSet::new();
        tasks.spawn(read_inventory(Duration::from_mins(1), Arc::clone(&wanted), link, inputs, read));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_mins(1) {
            wanted.notify_one();
            sleep(Duration::from_millis(10)).await;
        }
        let asked: Vec<Duration> = asked.lock().unwrap().iter().map(|at| *at - begin).collect();
        let mut told = 0;
        while lists.try_recv().is_ok() {
            told += 1;
        }
        assert!(told + 1 >= asked.len(), "all that was read is told");
        asked
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_is_read_at_once_and_then_at_a_distance_that_grows_with_what_a_reading_takes() {
        for (takes, distance) in [(5, 1005), (1000, 11_000), (4000, 44_000)] {
            let readings = readings(Duration::from_millis(takes)).await;
            assert!(readings[0] < Duration::from_millis(100), "the first one does not wait: {readings:?}");
            let distance = Duration::from_millis(distance);
            assert!(readings.len() >= 2, "{readings:?}");
            for pair in readings.windows(2) {
                let late = pair[1].checked_sub(pair[0] + distance).expect("it is read too soon");
                assert!(late < Duration::from_millis(100), "{readings:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_wanted_before_a_reading_is_not_read_again_for() {
        let (inputs, mut lists) = mpsc::channel(10);
        let (read, _seen) = watch::channel(Inventory::default());
        let wanted = Arc::new(Notify::new());
        let link = Slow { takes: Duration::ZERO, asked: Arc::default() };
        let mut tasks = JoinSet::new();
        tasks.spawn(read_inventory(Duration::from_mins(1), Arc::clone(&wanted), link, inputs, read));
        wanted.notify_one();
        lists.recv().await.unwrap();
        // Twice within the pause: once for both.
        for _ in 0..2 {
            sleep(Duration::from_millis(300)).await;
            wanted.notify_one();
        }
        lists.recv().await.unwrap();
        let next = timeout(Duration::from_secs(30), lists.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }
}
