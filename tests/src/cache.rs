//! Folders that are built once and kept: under a name that holds a hash of their recipe, made elsewhere and
//! renamed, so that what has the name is complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::command::{last_lines, text};
use crate::error::{Context, Error, Result};
use crate::paths::{self, create_folder};
use crate::progress::Progress;
use crate::{lock, mounts};

/// How often a long step says that it goes on.
const STILL: Duration = Duration::from_secs(5);

/// Something that is built once.
#[derive(Debug)]
pub(crate) struct Cached {
    /// What it is, for people.
    title: &'static str,
    path: PathBuf,
}

impl Cached {
    /// `name` and all that the result depends on.
    pub fn new<'a>(title: &'static str, name: &str, recipe: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for part in recipe {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let hash = hex::encode(hash.finalize());
        Self { title, path: Path::new(paths::CACHE).join(format!("{name}-{}", &hash[..12])) }
    }

    /// Whether it is there already.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Its folder; built with `build(temporary folder)` when it is not there.
    pub fn get(&self, progress: &Progress, build: impl FnOnce(&Build<'_>) -> Result<()>) -> Result<PathBuf> {
        if self.exists() {
            return Ok(self.path.clone());
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _lock = lock::wait(&name)?;
        if self.exists() {
            return Ok(self.path.clone());
        }
        let folder = self.path.with_file_name(format!(".{name}.building"));
        remove_tree(&folder)?;
        create_folder(&folder)?;
        let log = self.path.with_extension("log");
        let _ = fs::remove_file(&log);
        progress.line(format_args!("{}: building it once, log in {}", self.title, log.display()));
        build(&Build { folder: &folder, log: &log, title: self.title, progress })?;
        fs::rename(&folder, &self.path).at("rename", &folder)?;
        progress.line(format_args!("{}: kept in {}", self.title, self.path.display()));
        Ok(self.path.clone())
    }
}

/// A build that is going on.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    /// Where the result is to be made.
    pub folder: &'a Path,
    log: &'a Path,
    title: &'static str,
    progress: &'a Progress,
}

impl Build<'_> {
    /// Runs one step. It ends with us, and what it mounts is gone with it, however we end.
    pub fn step(&self, what: &str, program: &mut Command) -> Result<()> {
        self.progress.line(format_args!("{}: {what}", self.title));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log).at("open", self.log)?;
        let errors = log.try_clone().at("open", self.log)?;
        let mut child = contained(program)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .context(|| format!("cannot run {}", text(program)))?;
        let (started, mut said) = (Instant::now(), Instant::now());
        let status = loop {
            if let Some(status) = child.try_wait().context(|| format!("cannot wait for {}", text(program)))? {
                break status;
            }
            if said.elapsed() > STILL {
                said = Instant::now();
                let line = last_lines(&self.written(), 1);
                let seconds = started.elapsed().as_secs();
                self.progress.line(format_args!("{}: {what}, for {seconds} s: {line}", self.title));
            }
            thread::sleep(Duration::from_millis(100));
        };
        if status.success() {
            return Ok(());
        }
        let output = format!("{}\n(all of it is in {})", last_lines(&self.written(), 15), self.log.display());
        Err(Error::Command { command: text(program), status: status.to_string(), output })
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log).unwrap_or_default()).into_owned()
    }
}

/// A program in PID and mount namespaces of its own, which the kernel ends when we end.
fn contained(program: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "--",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.arg("--").arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    command
}

/// Removes a folder and all in it, but nothing that is mounted there.
pub(crate) fn remove_tree(folder: &Path) -> Result<()> {
    mounts::unmount_below(folder)?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", folder),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_recipe_has_another_name() {
        let name = |parts: &[&str]| Cached::new("", "x", parts.iter().copied()).path;
        assert_eq!(name(&["a", "b"]), name(&["a", "b"]));
        assert_ne!(name(&["a", "b"]), name(&["ab"]), "where a part ends counts");
        assert_ne!(name(&["a"]), name(&["b"]));
    }
}
