//! Folders that are built once and kept: under a name that holds a hash of their recipe, made elsewhere and
//! renamed, so that what has the name is complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use crate::command::{last_lines, text};
use crate::error::{Context, Error, Result};
use crate::paths::{self, create_folder};
use crate::progress::Progress;
use crate::{lock, mounts};

/// How often a long step says that it goes on.
const STILL: Duration = Duration::from_secs(5);

/// What another recipe made is removed when nobody has used it for so long.
const UNUSED: Duration = Duration::from_hours(30 * 24);

/// Something that is built once.
#[derive(Debug)]
pub(crate) struct Cached {
    /// What it is, for people.
    title: &'static str,
    /// Its name without the hash of its recipe.
    kind: String,
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
        let path = Path::new(paths::CACHE).join(format!("{name}-{}", &hash[..12]));
        Self { title, kind: name.to_owned(), path }
    }

    /// Whether it is there already.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Its folder; built with `build(temporary folder)` when it is not there. Others of its kind that nobody uses any
    /// more are removed.
    pub fn get(&self, progress: &Progress, build: impl FnOnce(&Build<'_>) -> Result<()>) -> Result<PathBuf> {
        let path = self.built(progress, build)?;
        // Best effort: they only take room.
        let _ = self.prune(SystemTime::now());
        Ok(path)
    }

    fn built(&self, progress: &Progress, build: impl FnOnce(&Build<'_>) -> Result<()>) -> Result<PathBuf> {
        let name = file_name(&self.path);
        // Also while it is there: nobody removes it then.
        let _lock = lock::wait(&name)?;
        let log = self.path.with_extension("log");
        if self.exists() {
            // The log's time is when it was last used.
            let log_file = fs::OpenOptions::new().create(true).append(true).open(&log).at("open", &log)?;
            log_file.set_modified(SystemTime::now()).at("mark as used", &log)?;
            return Ok(self.path.clone());
        }
        let folder = self.path.with_file_name(format!(".{name}.building"));
        remove_tree(&folder)?;
        create_folder(&folder)?;
        let _ = fs::remove_file(&log);
        progress.line(format_args!("{}: building it once, log in {}", self.title, log.display()));
        build(&Build { folder: &folder, log: &log, title: self.title, progress })?;
        fs::rename(&folder, &self.path).at("rename", &folder)?;
        progress.line(format_args!("{}: kept in {}", self.title, self.path.display()));
        Ok(self.path.clone())
    }

    /// Removes what other recipes of this kind made, and what was never finished of it, unless it was used within
    /// `UNUSED` before `now` or belongs to a cluster that is there.
    fn prune(&self, now: SystemTime) -> Result<()> {
        let folder = self.path.parent().unwrap_or(&self.path);
        for entry in fs::read_dir(folder).at("read", folder)?.flatten() {
            let file = file_name(&entry.path());
            let name = file.trim_start_matches('.').split('.').next().unwrap_or_default().to_owned();
            let hash = name.strip_prefix(&format!("{}-", self.kind));
            let other = name != file_name(&self.path) && hash.is_some_and(|hash| hash.len() == 12);
            let path = folder.join(&name);
            if !other || !unused(&path, now) {
                continue;
            }
            let _lock = lock::wait(&name)?;
            // Somebody may have taken it up while we waited.
            if unused(&path, now) {
                remove_tree(&path)?;
                remove_tree(&folder.join(format!(".{name}.building")))?;
                let _ = fs::remove_file(path.with_extension("log"));
            }
        }
        Ok(())
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether nobody has used the cached folder `path` lately, nor does now.
fn unused(path: &Path, now: SystemTime) -> bool {
    let (log, name) = (path.with_extension("log"), file_name(path));
    let used = fs::metadata(&log).or_else(|_| fs::metadata(path)).and_then(|found| found.modified());
    let lately = used.is_ok_and(|used| now.duration_since(used).is_ok_and(|ago| ago < UNUSED) || used > now);
    let mounted = fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| table.contains(&name));
    !lately && !mounted
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
    fn what_other_recipes_made_is_removed_when_it_was_not_used_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let own = Cached { title: "", kind: "t-kind".to_owned(), path: path("t-kind-000000000000") };
        let make = |name: &str| fs::create_dir_all(path(name).join("usr")).unwrap();
        let log = |name: &str, age: Duration| {
            let file = fs::File::create(path(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        };
        for name in
            ["t-kind-000000000000", "t-kind-111111111111", "t-kind-222222222222", "other-333333333333"]
        {
            make(name);
            log(&format!("{name}.log"), UNUSED * 2);
        }
        log("t-kind-222222222222.log", UNUSED / 2);
        make(".t-kind-444444444444.building");
        log("t-kind-444444444444.log", UNUSED * 2);
        own.prune(SystemTime::now()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| file_name(&e.unwrap().path())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "other-333333333333",
                "other-333333333333.log",
                "t-kind-000000000000",
                "t-kind-000000000000.log",
                "t-kind-222222222222",
                "t-kind-222222222222.log",
            ]
        );
    }

    #[test]
    fn another_recipe_has_another_name() {
        let name = |parts: &[&str]| Cached::new("", "x", parts.iter().copied()).path;
        assert_eq!(name(&["a", "b"]), name(&["a", "b"]));
        assert_ne!(name(&["a", "b"]), name(&["ab"]), "where a part ends counts");
        assert_ne!(name(&["a"]), name(&["b"]));
    }
}
