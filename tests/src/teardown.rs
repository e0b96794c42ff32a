//! Takes a cluster away. Everything is found by the cluster's name, its control groups and the kernel's tables,
//! so it does not matter what was killed, when, or how often this was begun before.

use std::fs;
use std::path::Path;

use crate::cache::remove_tree;
use crate::cgroups::Hierarchies;
use crate::error::{Error, Result};
use crate::network::{self, Subnet};
use crate::paths::{self, Paths};
use crate::{host, lock, mounts, state};

/// Ends and removes everything of cluster `name`. Fine when there is nothing.
/// The caller holds the lock of the cluster.
pub(crate) fn remove(name: &str) -> Result<()> {
    let paths = Paths::of(name);
    // A state that cannot be read costs the interface on the machine, which ends with the namespace too.
    let subnet = state::load(name).ok().flatten().map(|state| Subnet(state.subnet));
    let hierarchies = Hierarchies::mounted()?;
    let group = hierarchies.group(name);
    let mut left = Vec::new();
    let mut attempt = |result: Result<()>| left.extend(result.err().map(|error| error.to_string()));

    attempt(group.kill());
    forget_machines(name, &host::roots(&paths));
    attempt(mounts::unmount_below(&paths.run));
    attempt(network::remove(name, &paths, subnet));
    attempt(group.remove());
    attempt(remove_tree(&paths.disks));
    if left.is_empty() {
        // The record goes last: as long as something is left, it says so.
        left.extend(remove_tree(&paths.run).err().map(|error| error.to_string()));
    }
    remove_shared(&hierarchies)?;
    if left.is_empty() { Ok(()) } else { Err(Error::Leftovers { name: name.to_owned(), left }) }
}

fn forget_machines(name: &str, roots: &Path) {
    for root in fs::read_dir(roots).into_iter().flatten().flatten() {
        let machine = format!("{name}-{}", root.file_name().to_string_lossy());
        host::remove_traces(&machine, &root.path());
    }
}

/// Removes what clusters share, when this was the last. Under the lock under which they are made.
fn remove_shared(hierarchies: &Hierarchies) -> Result<()> {
    let _lock = lock::wait("subnets")?;
    hierarchies.remove_shared();
    for folder in [paths::RUN, paths::DISKS] {
        // Fails while another cluster is in it, as it should.
        let _ = fs::remove_dir(folder);
    }
    // `ip netns add` mounts this folder on itself when it first makes it.
    let namespaces = Path::new("/run/netns");
    if fs::read_dir(namespaces).is_ok_and(|mut entries| entries.next().is_none()) {
        mounts::unmount_below(namespaces)?;
        let _ = fs::remove_dir(namespaces);
    }
    Ok(())
}
