//! The fake cluster in virtual time: what Mesos' documentation and behaviour say, call by call.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod faults;
mod life;
mod offers;
mod refusals;
mod scheduler;
