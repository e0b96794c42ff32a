//! The two helper programs that a Mesos agent starts and that the Python package of Mesos
//! lacks: the command executor and the fetcher. They behave, and word their messages, as those
//! of Apache Mesos 1.11 do.

pub mod duration;
pub mod executor;
pub mod fetcher;
