//! A real local cluster on one machine: Mesos, etcd, ZooKeeper and agent hosts with systemd and Docker.
//!
//! `Cluster::up` makes one; the program `cluster` does the same from a shell. See `tests/README.md`.

pub mod api;
pub mod artifact_server;
mod base_image;
mod cache;
mod capabilities;
mod cgroups;
mod cluster;
mod command;
mod error;
mod host;
mod http;
mod lock;
pub mod marathon;
mod mesos_build;
mod mounts;
mod network;
mod paths;
pub mod preflight;
pub mod probe;
mod process;
pub mod product;
pub mod programs;
mod progress;
pub mod proof;
mod registry;
mod running;
mod services;
mod spec;
mod state;
mod teardown;

pub use cluster::Cluster;
pub use error::{Error, Result};
pub use host::Host;
pub use http::{get_json, get_json_within, post_json};
pub use lock::{Lock, test_lock};
pub use progress::Progress;
pub use running::{Process, Signal};
pub use spec::{HostKind, Platform, Spec};
