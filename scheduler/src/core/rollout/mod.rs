//! Rollouts: a changed target is brought to every agent, in an order and at a rate that operators trust.

mod record;
mod settings;
mod windows;

pub use record::{Order, Place, Plan, RolloutRecord, Stage};
pub use settings::{Rollout, RolloutStrategy};
pub use windows::{WindowError, Windows};
