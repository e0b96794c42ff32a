//! The Mesos framework that installs Calico on every agent and keeps it running.
//!
//! One way through: [`mesos`] → [`core`] → [`driver`] → [`state`] and [`mesos`]. [`lead`] puts them together, [`tasks`]
//! says what is launched, [`api`] shows it, [`config`] holds every option.

#[cfg(test)]
extern crate self as calico_scheduler;

pub mod api;
pub mod config;
pub mod core;
pub mod driver;
#[cfg(test)]
#[path = "../tests/support/environment.rs"]
mod environment;
pub mod lead;
#[cfg(test)]
#[path = "../tests/support/link.rs"]
mod link;
pub mod mesos;
pub mod pulse;
pub mod state;
pub mod tasks;
