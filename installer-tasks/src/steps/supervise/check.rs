//! Asks from beside a supervisor whether its container runs, and asks again.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::exit::Result;
use crate::host::docker::{Docker, DockerError};

/// How long a check may ask Docker.
const CHECK_LIMIT: Duration = Duration::from_secs(3);
/// How soon it is asked again what was answered with no.
const AGAIN: Duration = Duration::from_millis(200);

/// Asks again until the answer is yes, or so many seconds are over: then it is the last one.
pub async fn asked_within<T>(seconds: u64, ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let answer = ask().await;
        if answer.is_ok() || Instant::now() + AGAIN > end {
            return answer;
        }
        sleep(AGAIN).await;
    }
}

/// Why a container does not run.
#[derive(Debug, thiserror::Error)]
pub enum NotRunning {
    /// Docker said no.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// Docker does not answer.
    #[error("Docker does not answer within {} s", CHECK_LIMIT.as_secs())]
    Silent,
    /// There is none of that name.
    #[error("there is no container {0}")]
    Absent(&'static str),
    /// It has ended.
    #[error("the container {0} does not run (exit status {1})")]
    Ended(&'static str, i64),
}

impl NotRunning {
    /// Whether dockerd is not there to ask: its container is then no reason to end its supervisor, which waits for
    /// dockerd, and is what another supervisor would have to do.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Docker(error) => error.is_away(),
            Self::Silent => true,
            Self::Absent(_) | Self::Ended(..) => false,
        }
    }
}

/// Whether the container `name` runs.
pub async fn container_runs(socket: &Path, name: &'static str) -> Result<(), NotRunning> {
    let look = async {
        let docker = Docker::connect(socket).await?;
        match docker.container(name).await? {
            None => Err(NotRunning::Absent(name)),
            Some(container) if !container.running => Err(NotRunning::Ended(name, container.exit_code)),
            Some(_) => Ok(()),
        }
    };
    timeout(CHECK_LIMIT, look).await.unwrap_or(Err(NotRunning::Silent))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::exit::{Exit, Failure};

    /// Asks something that is so after `yes_after`: the answer, and after how long it came.
    async fn asked(seconds: u64, yes_after: Duration) -> (bool, Duration) {
        let begin = Instant::now();
        let asked = Cell::new(0);
        let ask = async || {
            asked.set(asked.get() + 1);
            (begin.elapsed() >= yes_after).then_some(()).ok_or_else(|| Failure::new(Exit::No, "not yet"))
        };
        let answer = asked_within(seconds, ask).await.is_ok();
        assert!(asked.get() >= 1);
        (answer, begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_so_yet_is_asked_again_for_as_long_as_is_said() {
        assert_eq!(asked(0, Duration::from_secs(1)).await, (false, Duration::ZERO));
        assert_eq!(asked(0, Duration::ZERO).await, (true, Duration::ZERO));
        assert_eq!(asked(3, Duration::from_secs(1)).await, (true, Duration::from_secs(1)));
        let (answer, time) = asked(3, Duration::from_secs(9)).await;
        assert!(!answer && time <= Duration::from_secs(3) && time > Duration::from_secs(2), "{time:?}");
    }
}
