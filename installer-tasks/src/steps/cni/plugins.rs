//! The plugins' files: which there are to be, and what is in their way.

use std::path::{Path, PathBuf};

use super::config::PORT_MAPPER;
use super::place::Searched;
use super::{IPAM_PLUGIN, PLUGIN};
use crate::exit::{Failure, Result};
use crate::host::agent::AgentFlags;
use crate::host::artifact;
use crate::host::files::{self, Files};
use crate::label_wrapper;
use crate::options::CniOptions;
use crate::values::Artifact;

/// This program, whatever became of the name that it was started by.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A plugin that is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its file's name.
    pub name: String,
    /// What is in it.
    pub source: Artifact,
    /// Whether it is found by its name: one behind a wrapper is not.
    pub searched: bool,
}

impl Plugin {
    fn new(name: impl Into<String>, source: Artifact) -> Self {
        Self { name: name.into(), source, searched: true }
    }
}

/// Calico's plugins, in the order in which they are put in place: none is there before what it runs. Where it is only
/// `compared`, artifacts need not be there.
pub fn wanted(options: &CniOptions, compared: bool) -> Result<Vec<Plugin>> {
    let (calico, ipam) = (&options.artifacts_cni, &options.artifacts_cni_ipam);
    let mut needed = [calico, ipam].into_iter().filter(|artifact| !compared || artifact.path.exists());
    needed.try_for_each(artifact::verify)?;
    let ipam = Plugin::new(IPAM_PLUGIN, ipam.clone());
    if !options.cni_label_wrapper {
        return Ok(vec![Plugin::new(PLUGIN, calico.clone()), ipam]);
    }
    let name = format!("{PLUGIN}{}", label_wrapper::SUFFIX);
    let behind = Plugin { searched: false, ..Plugin::new(name, calico.clone()) };
    let own = Path::new(OWN_PROGRAM);
    let wrapper = Artifact { path: own.to_owned(), sha256: files::sha256_of(own)? };
    Ok(vec![behind, ipam, Plugin::new(PLUGIN, wrapper)])
}

/// Whether a file has the name of one that is put among the plugins.
pub fn is_ours(path: &Path) -> bool {
    let behind = format!("{PLUGIN}{}", label_wrapper::SUFFIX);
    path.file_name()
        .is_some_and(|name| [PLUGIN, IPAM_PLUGIN, PORT_MAPPER, &behind].iter().any(|it| name == *it))
}

/// Mesos' port mapper, where it must be put into the agent's search list: it comes with the agent, but not all have it
/// there, as DC/OS has. `ours` says whether we have put it somewhere before.
pub fn port_mapper(
    files: &Files,
    searched: &Searched,
    flags: &AgentFlags,
    ours: impl Fn(&Path) -> bool,
) -> Result<Option<Plugin>> {
    let places = || searched.plugins.iter().map(|directory| directory.join(PORT_MAPPER));
    if places().any(|path| files.is_file(&path) && !ours(&path)) {
        return Ok(None);
    }
    let path = flags.launcher_dir().join(PORT_MAPPER);
    if files.is_file(&path) {
        let sha256 = files.sha256_of(&path)?;
        return Ok(Some(Plugin::new(PORT_MAPPER, Artifact { path, sha256 })));
    }
    Err(Failure::unsuitable(format!(
        "--cni-port-mapper needs {PORT_MAPPER}, which comes with Mesos 1.1 and later: it is neither in the agent's \
         --network_cni_plugins_dir {} nor in its --launcher_dir ({})",
        searched.plugins_text(),
        path.display()
    )))
}

/// The agent runs the first plugin of a name that it finds: an earlier one of another content is in our way.
pub fn check_shadows(searched: &Searched, directory: &Path, plugin: &Plugin) -> Result<Option<String>> {
    let is_file = |path: &PathBuf| plugin.searched && path.is_file();
    let Some(earlier) = searched.before(directory, &plugin.name).into_iter().find(is_file) else {
        return Ok(None);
    };
    if files::sha256_of(&earlier)? == plugin.source.sha256 {
        let earlier = earlier.display();
        return Ok(Some(format!("{earlier} comes first in the agent's search list, and is the same")));
    }
    Err(Failure::unsuitable(format!(
        "{} shadows {}: the agent searches {} first and cannot be given ours there; remove or replace it",
        earlier.display(),
        directory.join(&plugin.name).display(),
        earlier.parent().unwrap_or(Path::new("/")).display()
    )))
}
