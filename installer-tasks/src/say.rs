//! What is said on standard output and error.
//!
//! `println!` and `eprintln!` panic when nobody can take what is said, and a sandbox on a full disk cannot: a change
//! that has begun must be finished or taken back all the same.

use std::fmt::Display;
use std::io::{self, Write};

/// Says how it goes, on standard error.
pub fn progress(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says what came of it, on standard output.
pub fn result(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}
