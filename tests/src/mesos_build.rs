//! Apache Mesos 1.11.0: built once by the recipe in `tests/mesos`, which is compiled into this program.

use std::fs;
use std::path::PathBuf;

use crate::cache::{Build, Cached};
use crate::command::command;
use crate::error::{Context, Result};
use crate::progress::Progress;

const RECIPE: [(&str, &str); 4] = [
    ("build.sh", include_str!("../mesos/build.sh")),
    ("curl-shim.c", include_str!("../mesos/curl-shim.c")),
    ("fetch.py", include_str!("../mesos/fetch.py")),
    ("mesos-node.cpp", include_str!("../mesos/mesos-node.cpp")),
];

/// The cached build of Mesos.
pub(crate) fn cached() -> Cached {
    Cached::new("Mesos", "mesos", RECIPE.iter().map(|(_, text)| *text))
}

/// The folder with Mesos' `bin` and `lib`, built when it is not there.
pub(crate) fn get(progress: &Progress) -> Result<PathBuf> {
    cached().get(progress, build)
}

fn build(build: &Build<'_>) -> Result<()> {
    let recipe = build.folder.join("recipe");
    crate::paths::create_folder(&recipe)?;
    for (name, text) in RECIPE {
        let file = recipe.join(name);
        fs::write(&file, text).at("write", &file)?;
    }
    build.step(
        "fetching and linking",
        command("bash", [recipe.join("build.sh"), build.folder.to_owned()]).env("LC_ALL", "C"),
    )
}
