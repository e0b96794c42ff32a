//! `agents.*`, `recovery.*` and `verify.*`: which agents get Calico, how long they are known, how many are recovered at a
//! time, and how often it is looked whether all is still there.

use std::time::Duration;

use super::at_least;
use super::reader::{Reader, parse};
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

/// None when nothing is ever looked at.
pub(super) fn verify_interval(reader: &mut Reader) -> Option<Duration> {
    // Less would be no more than a look after the other.
    let least = Duration::from_secs(10);
    let interval =
        reader.required("verify.interval", Duration::ZERO, |value| match parse::duration(value)? {
            interval if interval.is_zero() || interval >= least => Ok(interval),
            _ => Err(format!("must be at least {}, or 0s for never", humantime::format_duration(least))),
        });
    (!interval.is_zero()).then_some(interval)
}

/// A number or a percentage of the agents.
pub(super) fn share(reader: &mut Reader, name: &'static str) -> Share {
    reader.required(name, Share::Number(1), |value| {
        value.parse().map_err(|error: crate::core::ShareError| error.to_string())
    })
}
