//! The Mesos framework that installs Calico on every agent and keeps it running.

pub mod core;
