//! The loop's signs of life: whoever looks at them may end the process when they stay away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, interval};

/// How often the loop lives while it waits for what ends in time, whatever others do.
const BEAT: Duration = Duration::from_secs(1);

/// When something last went on. Clones are of the same loop.
#[derive(Debug, Clone)]
pub struct Pulse {
    since: Instant,
    /// Milliseconds after `since`.
    last: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { since: Instant::now(), last: Arc::default() }
    }
}

impl Pulse {
    /// Something went on: a round of the loop, a transaction of a commit, a call.
    pub fn beat(&self) {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn idle(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Beats for as long as `work` takes. That must be something that ends in time by itself: what hangs would look alive.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut beats = interval(BEAT);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.beat();
                    return done;
                }
                _ = beats.tick() => self.beat(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_since_the_last_beat_and_beats_while_something_is_waited_for() {
        let pulse = Pulse::default();
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(pulse.idle(), Duration::from_secs(9));
        pulse.beat();
        assert_eq!(pulse.idle(), Duration::ZERO);
        let watched = pulse.clone();
        let watch = async move {
            for _ in 0..60 {
                tokio::time::sleep(Duration::from_millis(990)).await;
                assert!(watched.idle() <= BEAT, "{:?}", watched.idle());
            }
        };
        let ((), ()) = tokio::join!(pulse.during(tokio::time::sleep(Duration::from_mins(1))), watch);
    }
}
