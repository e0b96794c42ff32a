//! A counter in a file, so that a test can see for how long the node did not run.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ten lines a second.
const INTERVAL: Duration = Duration::from_millis(100);
/// Size in bytes at which the file becomes `<name>.1`, the former of which is lost; about six hours of lines.
const LIMIT: u64 = 4 << 20;

/// Appends `<milliseconds since 1970> <number>` every 100 ms for ever; to be run on a thread of its own.
pub fn beat(path: &Path) {
    let mut failed = false;
    for number in 0_u64.. {
        match append(path, number, LIMIT) {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                tracing::error!("cannot write {}: {error}", path.display());
                failed = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(INTERVAL);
    }
}

fn append(path: &Path, number: u64, limit: u64) -> io::Result<()> {
    let mut file: File = OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.len() >= limit {
        rename(path, path.with_extension("1"))?;
        file = OpenOptions::new().append(true).create(true).open(path)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // In one write: a reader never sees half a line.
    file.write_all(format!("{now} {number}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_the_file_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heartbeat");
        for number in 0..20 {
            append(&path, number, 100).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= 120, "{text}");
        let last: Vec<&str> = text.lines().last().unwrap().split(' ').collect();
        assert!(last[0].parse::<u64>().unwrap() > 1_600_000_000_000);
        assert_eq!(last[1], "19");
        assert!(path.with_extension("1").exists());
    }
}
