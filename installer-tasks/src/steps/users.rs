//! Containers that use a network when it is to be taken back.

use crate::exit::{Exit, Failure, Result};
use crate::say;

/// Refuses while there are `users` of `network`, for they need `plugins` when they end; goes on when that is forced.
pub(super) fn refuse(network: &str, plugins: &str, users: &[String], force: bool) -> Result<()> {
    if users.is_empty() {
        return Ok(());
    }
    let list = users.join(", ");
    if force {
        say::progress(format_args!("containers use {network}, going on as asked: {list}"));
        return Ok(());
    }
    Err(Failure::new(
        Exit::TryAgain,
        format!(
            "containers use {network}, and need {plugins} when they end: {list}; end them, or use --force"
        ),
    ))
}
