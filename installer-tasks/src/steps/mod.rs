//! One file a step on the host: it checks what there is, plans, applies, verifies the effect, and undoes.

pub mod agent;
pub mod cluster_init;
pub mod cni;
pub mod docker_network;
pub mod docker_store;
pub mod etcd_proxy;
pub mod etcd_tls;
pub mod libnetwork;
pub mod model;
mod name;
pub mod net_modules;
pub mod node;
pub mod node_ip;
pub mod prefetch;
pub mod preflight;
pub mod status;
pub mod supervise;
pub mod undo_all;
mod users;

pub use name::StepName;
