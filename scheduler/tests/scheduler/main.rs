//! The parts that talk to others, over real HTTP on the loopback: the Mesos client, the driver, the API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod api;
mod client;
mod commands;
mod docs;
mod driver;
#[path = "../support/environment.rs"]
mod environment;
#[path = "../support/etcd.rs"]
#[allow(dead_code, reason = "the simulation needs all of it")]
mod etcd;
mod fuzz;
mod health;
#[path = "../support/link.rs"]
mod link;
mod loops;
mod master;
mod pulse;

use calico_scheduler::config::{Identity, Masters, Server};
use calico_scheduler::mesos::Access;

/// The one master that there is.
fn named(authority: &str) -> Masters {
    Masters::Named(vec![Server { tls: false, authority: authority.to_owned() }])
}

/// Access without credentials.
fn nobody() -> Access {
    Access::new(&Identity::Anonymous, &[]).unwrap()
}
