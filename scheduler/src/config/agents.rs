//! `agents.*`, `recovery.*` and `rollout.*`: which agents get Calico, how long they are known, and how many are recovered
//! or disrupted at a time.

use std::time::Duration;

use super::at_least;
use super::reader::Reader;
use crate::core::{Selector, Share};

/// `agents.*`
#[derive(Debug, Clone)]
pub struct Agents {
    /// Left alone.
    pub exclude: Vec<Selector>,
    /// When not empty: the only ones.
    pub only: Vec<Selector>,
    /// How long one may be away before it is forgotten.
    pub forget_after: Duration,
    /// How long a task may be at its beginning.
    pub task_timeout: Duration,
}

/// `recovery.*`
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// How many services are recovered at the same time.
    pub max_concurrent: Share,
    /// With more agents than this down at the same time, recoveries are held.
    pub mass_failure: Share,
}

/// `rollout.*`
#[derive(Debug, Clone, Copy)]
pub struct Rollout {
    /// How many agents are disrupted at the same time.
    pub max_concurrent_restarts: Share,
    /// How long such an agent has to become healthy.
    pub agent_timeout: Duration,
    /// For how long without a break it must be healthy before the next one begins.
    pub stability: Duration,
}

pub(super) fn agents(reader: &mut Reader) -> Agents {
    let selector = |value: &str| Ok(Selector(value.to_owned()));
    let mut duration = |name, least| reader.required(name, Duration::ZERO, at_least(least));
    let forget_after = duration("agents.forget-after", Duration::from_secs(1));
    let task_timeout = duration("agents.task-timeout", Duration::from_mins(1));
    Agents {
        exclude: reader.list("agents.exclude", selector),
        only: reader.list("agents.only", selector),
        forget_after,
        task_timeout,
    }
}

pub(super) fn recovery(reader: &mut Reader) -> Recovery {
    Recovery {
        max_concurrent: share(reader, "recovery.max-concurrent"),
        mass_failure: share(reader, "recovery.mass-failure"),
    }
}

pub(super) fn rollout(reader: &mut Reader) -> Rollout {
    Rollout {
        max_concurrent_restarts: share(reader, "rollout.max-concurrent-restarts"),
        // A daemon takes its time to stop and to start, and what needs it to be ready again.
        agent_timeout: reader.required(
            "rollout.agent-timeout",
            Duration::ZERO,
            at_least(Duration::from_mins(1)),
        ),
        stability: reader.required("rollout.stability", Duration::ZERO, at_least(Duration::from_secs(1))),
    }
}

fn share(reader: &mut Reader, name: &'static str) -> Share {
    reader.required(name, Share::Number(1), |value| {
        value.parse().map_err(|error: crate::core::ShareError| error.to_string())
    })
}
