//! Rollouts: a changed target is brought to every agent, in an order and at a rate that operators trust.

mod settings;
mod windows;

pub use settings::{Rollout, RolloutStrategy};
pub use windows::{WindowError, Windows};
