//! The master: the v1 scheduler API, the operator API for the list of agents, and the agents' sandboxes.

mod access;
mod auth;
mod calls;
mod client;
mod convert;
mod link;
mod masters;
mod operator;
mod refusal;
mod sandbox;
mod sender;
mod trouble;
mod zookeeper;

pub use access::{Access, AccessError};
pub use auth::AuthError;
pub use calls::{Site, call};
pub use client::{Client, ClientEvent, Condition, Leader, StreamNumber};
pub use convert::{InvalidEvent, Record, event, read};
pub use link::Link;
pub use operator::{OperatorError, listed};
pub use refusal::Refusal;
