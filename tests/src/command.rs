//! Programs that are run to their end, and conditions that are waited for.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How many lines of a failed program's output its error shows.
const SHOWN_LINES: usize = 15;

/// A program with its arguments.
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a program to its end; an exit status other than 0 is an error with its output.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().context(|| format!("cannot run {}", text(command)))?;
    if output.status.success() {
        return Ok(output);
    }
    let written = [&*output.stdout, &*output.stderr].concat();
    Err(Error::Command {
        command: text(command),
        status: output.status.to_string(),
        output: last_lines(&String::from_utf8_lossy(&written), SHOWN_LINES),
    })
}

/// `ip` with arguments that are split at blanks.
pub(crate) fn ip(arguments: &str) -> Result<Output> {
    run(&mut command("ip", arguments.split_whitespace()))
}

/// A command as it would be typed.
pub(crate) fn text(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Looks at a condition until it holds. `Ok(Err(why))` is 'not yet', with what was seen.
pub(crate) fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<std::result::Result<T, String>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let why = match condition()? {
            Ok(value) => return Ok(value),
            Err(why) => why,
        };
        if started.elapsed() >= limit {
            return Err(Error::Timeout { what: what.to_owned(), limit, hint: why });
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_its_output() {
        let error =
            run(&mut command("sh", ["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("out") && error.contains("err"),
            "{error}"
        );
    }

    #[test]
    fn a_condition_that_never_holds_says_what_was_seen() {
        let never = wait_until::<()>("the moon", Duration::ZERO, || Ok(Err("clouds".to_owned())));
        assert_eq!(never.unwrap_err().to_string(), "the moon did not happen within 0 s: clouds");
    }

    #[test]
    fn the_last_lines_of_a_short_text_are_all() {
        assert_eq!(last_lines("a\nb", 5), "a\nb");
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
    }
}
