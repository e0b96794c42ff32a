//! The DC/OS Universe package of calico-dcos: its four files, and what is done with them.
//!
//! - [`Package`] holds the files: those of this crate, or those of a folder.
//! - [`Package::validate`] finds every fault in them at once.
//! - [`Package::filled`] puts in the artifacts' URIs and checksums ([`Resources`]).
//! - [`Package::render`] gives the Marathon app for a user's options. It is **the tests' stand-in for Cosmos**, which does this on
//!   a DC/OS cluster; [`mustache`] is its part for mustache.java.

mod fault;
pub mod mustache;
mod options;
mod package;
mod render;
mod resources;
mod validate;

pub use fault::{Fault, Faults};
pub use options::{OptionSchema, OptionType};
pub use package::{LoadError, Package, PackageFile};
pub use render::{OptionFault, OptionFaults, RenderError, environment};
pub use resources::{FillError, HashError, Resources};
