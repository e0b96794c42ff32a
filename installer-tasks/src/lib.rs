//! Everything that touches a host: installs, supervises and checks Calico's parts.
//!
//! [`cli`] is the way in; each file of [`steps`] is one step on the host; [`host`] is the only code that does
//! I/O on it; [`journal`] records what was there before, so that it can be taken back.

#[cfg(test)]
mod arbitrary;
pub mod cli;
pub mod exit;
pub mod host;
pub mod journal;
pub mod json_text;
pub mod label_wrapper;
pub mod options;
pub mod say;
pub mod steps;
pub mod values;
