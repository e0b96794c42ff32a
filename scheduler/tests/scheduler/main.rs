//! The parts that talk to others, over real HTTP on the loopback: the Mesos client, the driver, the API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod api;
mod client;
mod driver;
mod loops;
mod master;
