//! `rollout.*`: in which order, at what rate and when a changed configuration comes to the agents, and what ends that.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use super::agents::share;
use super::reader::{Reader, parse};
use super::{Target, at_least};
use crate::core::{self, OnFailure, RolloutStrategy, Share, WindowError};

/// `rollout.*`
#[derive(Debug, Clone)]
pub struct Rollout {
    /// In which order, at what rate and when, and what ends that; what it depends on besides is filled in by who launches.
    pub pace: core::Rollout,
    /// How many agents are disrupted at the same time.
    pub max_concurrent_restarts: Share,
    /// For how long an agent must be healthy until that is believed.
    pub stability: Duration,
    /// How long an agent has to become healthy.
    pub agent_timeout: Duration,
    /// Whether task types that are no longer wanted are taken back on the hosts.
    pub undo_disabled: bool,
}

const MAX_PER_DOMAIN: &str = "rollout.max-per-domain";
const DOMAIN_ATTRIBUTE: &str = "rollout.domain-attribute";

/// An option's value in a target: what is equal is written equally.
type Value = fn(&Target) -> String;

/// The options whose change is not safe.
const GUARDED: [(&str, Value); 6] = [
    ("network.name", |target| target.network.name.clone()),
    ("network.pool-cidr", |target| target.network.pool.to_string()),
    ("network.block-size", |target| target.network.block_size.to_string()),
    ("node.profile", |target| target.profile.word().to_owned()),
    ("etcd.endpoints", |target| {
        let etcd = &target.etcd;
        // Where they are found by SRV records, the name stands for them.
        let endpoints: BTreeSet<&str> =
            etcd.endpoints.iter().chain(&etcd.discovery_srv).map(String::as_str).collect();
        endpoints.into_iter().collect::<Vec<_>>().join(",")
    }),
    // Where the hosts' parts reach etcd: what they were told holds for as long as a container is on the network.
    ("etcd.proxy", |target| target.etcd.reached_at()),
];

impl Target {
    /// The options whose change is not safe, and their values: what is equal is written equally.
    pub fn guarded(&self) -> BTreeMap<String, String> {
        GUARDED.iter().map(|(option, value)| ((*option).to_owned(), value(self))).collect()
    }
}

pub(super) fn read(reader: &mut Reader) -> Rollout {
    Rollout {
        pace: pace(reader),
        max_concurrent_restarts: share(reader, "rollout.max-concurrent-restarts"),
        stability: reader.required("rollout.stability", Duration::ZERO, at_least(Duration::from_secs(1))),
        // A daemon takes its time to stop and to start, and what needs it to be ready again.
        agent_timeout: reader.required(
            "rollout.agent-timeout",
            Duration::ZERO,
            at_least(Duration::from_mins(1)),
        ),
        undo_disabled: reader.required("rollout.undo-disabled", false, parse::boolean),
    }
}

fn pace(reader: &mut Reader) -> core::Rollout {
    let domain_attribute = reader.optional(DOMAIN_ATTRIBUTE, attribute);
    if domain_attribute.is_some() && !reader.is_given(MAX_PER_DOMAIN) {
        reader.fault(DOMAIN_ATTRIBUTE, format!("does nothing alone: give {MAX_PER_DOMAIN}, too"));
    }
    core::Rollout {
        strategy: reader.required("rollout.strategy", RolloutStrategy::Canary, |value| {
            use RolloutStrategy::{Canary, Parallel, Serial};
            parse::one_of(value, &[("canary", Canary), ("serial", Serial), ("parallel", Parallel)])
        }),
        canary_count: reader.required("rollout.canary-count", 1, number),
        canary_soak: reader.required("rollout.canary-soak", Duration::ZERO, parse::duration),
        max_agents: share(reader, "rollout.max-concurrent-agents"),
        max_per_domain: reader.optional(MAX_PER_DOMAIN, number),
        domain_attribute,
        windows: reader
            .optional("rollout.windows", |value| {
                value.parse().map_err(|error: WindowError| error.to_string())
            })
            .unwrap_or_default(),
        max_attempts: reader.required("rollout.max-attempts", 1, number),
        max_failures: reader.required("rollout.max-failures", 1, number),
        on_failure: reader.required("rollout.on-failure", OnFailure::Halt, |value| {
            parse::one_of(value, &[("halt", OnFailure::Halt), ("rollback", OnFailure::Rollback)])
        }),
        allow_unsafe: reader.list("rollout.allow-unsafe", guarded).into_iter().collect(),
        ..core::Rollout::default()
    }
}

/// A number from 1.
fn number<N: FromStr + PartialOrd + From<u8>>(value: &str) -> Result<N, String> {
    let number = value.parse().ok().filter(|number| *number >= N::from(1));
    number.ok_or_else(|| "must be a number from 1, like 5".to_owned())
}

/// The name of an attribute, as the agents' `--attributes` has it before the colon.
fn attribute(value: &str) -> Result<String, String> {
    if value.contains([':', ';', ',']) || value.contains(char::is_whitespace) {
        return Err("must be the name of one attribute without its value, like rack".to_owned());
    }
    Ok(value.to_owned())
}

fn guarded(value: &str) -> Result<String, String> {
    let options = GUARDED.map(|(option, _)| option);
    if options.contains(&value) {
        return Ok(value.to_owned());
    }
    Err(format!("'{value}' is no option whose change is unsafe; those are: {}", options.join(", ")))
}
