//! A Mesos master and its agents, for tests: nothing in it reads a clock, does I/O or is random.
//!
//! [`World`] takes the calls of the v1 scheduler API ([`World::call`], or [`World::send`] with faults on the way) and
//! tells, as time passes ([`World::advance`]), what schedulers see: events, streams that end, answers. Beside it the
//! world is scripted: agents stop, are rebuilt, partitioned, drained; masters die and are elected; tasks follow a
//! [`Script`]. The same calls with the same seed give the same results.
//!
//! It is meant to be as strict as Mesos 1.11 is: `tests/e2e/fidelity` runs the same scenarios on it and on a real master.
//!
//! ```
//! use std::time::Duration;
//! use fake_master::{AgentSpec, Happening, Settings, World};
//! use mesos_v1::scheduler::{Call, call, event};
//!
//! let start = Duration::from_secs(1_700_000_000);
//! let mut world = World::new(start, 1, Settings::default());
//! world.add_agents(AgentSpec::many(3));
//! world.advance(start + Duration::from_secs(10));
//! let info = mesos_v1::FrameworkInfo { user: "root".into(), name: "x".into(), ..Default::default() };
//! let subscribe = call::Subscribe { framework_info: info, ..Default::default() };
//! let call = Call { r#type: Some(call::Type::Subscribe.into()), subscribe: Some(subscribe), ..Default::default() };
//! let answer = world.call(None, &call);
//! assert_eq!(answer.status, 200);
//! let seen = world.advance(world.now());
//! let offered = seen.iter().any(|(_, happening)| {
//!     matches!(happening, Happening::Event { event, .. } if event.r#type() == event::Type::Offers)
//! });
//! assert!(offered);
//! ```
//!
//! What it leaves out: quotas, weights and hierarchical roles' fairness; volumes, disks and resource providers; custom
//! executors, task groups and messages to executors; authentication and ACLs; operations' acknowledgements.

mod accept;
mod agent;
mod allocator;
mod calls;
mod constraints;
mod faults;
mod frameworks;
mod hosts;
mod offers;
mod operator;
mod random;
mod registration;
mod resources;
mod script;
mod server;
mod settings;
mod state;
mod tasks;
mod world;

pub use faults::Faults;
pub use random::Random;
pub use resources::{Amount, Part, Quantities, Resources};
pub use script::{End, Script};
pub use server::{Server, Traffic};
pub use settings::{AgentRef, AgentSpec, Settings, Time};
pub use world::{Answer, CallId, Happening, World};
