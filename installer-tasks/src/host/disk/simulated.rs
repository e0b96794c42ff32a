//! A disk in memory that can fail, be cut off at any operation, and lose what was not synced.
//!
//! It promises what POSIX does and no more. Until its file is synced, a content or attribute may be lost, and a content
//! may be there by half; until its directory is synced, each new, removed or changed name may be lost, each by
//! itself, in any combination. A rename happens as a whole, but when only the directory of the new name was synced, the
//! old name may be there again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, Kind, Locked, Look, NewFile};

/// A file as it is found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its user and group.
    pub owner: (u32, u32),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o} {:?} {}", self.mode, self.owner, String::from_utf8_lossy(&self.bytes))
    }
}

/// All that is on a disk: directories are `None`.
pub type Tree = BTreeMap<PathBuf, Option<Content>>;

type Node = usize;
const ROOT: Node = 0;

#[derive(Debug, Clone)]
enum Thing {
    File(Content),
    Directory(BTreeMap<OsString, Node>),
}

#[derive(Debug, Clone, Default)]
struct State(BTreeMap<Node, Thing>);

/// A change that a power cut may undo.
#[derive(Debug, Clone)]
enum Pending {
    Name { directory: Node, name: OsString, node: Node },
    NoName { directory: Node, name: OsString, node: Node },
    Rename { from: (Node, OsString), to: (Node, OsString), node: Node },
    Written { node: Node, bytes: Vec<u8> },
    Attributes { node: Node, mode: u32, owner: (u32, u32) },
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is done from this operation on, and everything fails: the process is dead.
    DeadFrom(usize),
    /// This operation alone fails.
    FailsAt(usize),
    /// From this operation on nothing can be created or written: the disk is full.
    FullFrom(usize),
}

#[derive(Debug, Clone)]
struct World {
    /// As programs see it.
    now: State,
    /// As it is found after a power cut at best for us to be sure of.
    durable: State,
    pending: Vec<Pending>,
    next: Node,
    trouble: Option<Trouble>,
    operations: usize,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<World>>);

impl State {
    fn directory(&self, node: Node) -> io::Result<&BTreeMap<OsString, Node>> {
        match self.0.get(&node) {
            Some(Thing::Directory(names)) => Ok(names),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        path.components().skip(1).try_fold(ROOT, |at, name| {
            self.directory(at)?.get(name.as_os_str()).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn names(&mut self, node: Node) -> Option<&mut BTreeMap<OsString, Node>> {
        match self.0.get_mut(&node) {
            Some(Thing::Directory(names)) => Some(names),
            _ => None,
        }
    }

    fn remove_name(&mut self, directory: Node, name: &OsString, node: Node) {
        if let Some(names) = self.names(directory)
            && names.get(name) == Some(&node)
        {
            names.remove(name);
        }
    }

    fn apply(&mut self, pending: &Pending) {
        match pending {
            Pending::Name { directory, name, node } => {
                if let Some(names) = self.names(*directory) {
                    names.insert(name.clone(), *node);
                }
            }
            Pending::NoName { directory, name, node } => self.remove_name(*directory, name, *node),
            Pending::Rename { from, to, node } => {
                self.remove_name(from.0, &from.1, *node);
                if let Some(names) = self.names(to.0) {
                    names.insert(to.1.clone(), *node);
                }
            }
            Pending::Written { node, bytes } => {
                if let Some(Thing::File(content)) = self.0.get_mut(node) {
                    content.bytes.clone_from(bytes);
                }
            }
            Pending::Attributes { node, mode, owner } => {
                if let Some(Thing::File(content)) = self.0.get_mut(node) {
                    (content.mode, content.owner) = (*mode, *owner);
                }
            }
        }
    }

    fn collect(&self, node: Node, path: &Path, tree: &mut Tree) {
        match &self.0[&node] {
            Thing::File(content) => {
                tree.insert(path.to_owned(), Some(content.clone()));
            }
            Thing::Directory(names) => {
                tree.insert(path.to_owned(), None);
                for (name, node) in names {
                    self.collect(*node, &path.join(name), tree);
                }
            }
        }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        self.collect(ROOT, Path::new("/"), &mut tree);
        tree
    }
}

impl World {
    /// Counts an operation that changes something, and fails it if that is its lot.
    fn operate(&mut self, needs_space: bool) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.trouble {
            Some(Trouble::DeadFrom(at)) if number >= at => Err(io::Error::other("dead")),
            Some(Trouble::FailsAt(at)) if number == at => Err(io::Error::other("it failed")),
            Some(Trouble::FullFrom(from)) if number >= from && needs_space => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Dead processes do not read either.
    fn alive(&self) -> io::Result<()> {
        match self.trouble {
            Some(Trouble::DeadFrom(at)) if self.operations > at => Err(io::Error::other("dead")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, pending: Pending) {
        self.now.apply(&pending);
        self.pending.push(pending);
    }

    fn place(&self, path: &Path) -> io::Result<(Node, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.now.find(path.parent().unwrap_or(Path::new("/")))?, name.to_owned()))
    }

    fn make(&mut self, path: &Path, thing: Thing) -> io::Result<Node> {
        let (directory, name) = self.place(path)?;
        if self.now.directory(directory)?.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = self.next;
        self.next += 1;
        self.now.0.insert(node, thing.clone());
        self.durable.0.insert(node, thing);
        self.change(Pending::Name { directory, name, node });
        Ok(node)
    }

    fn attributes(&mut self, node: Node, change: impl FnOnce(&mut Content)) {
        if let Some(Thing::File(content)) = self.now.0.get(&node) {
            let mut content = content.clone();
            change(&mut content);
            self.change(Pending::Attributes { node, mode: content.mode, owner: content.owner });
        }
    }

    /// What is pending of `is_meant` is durable from now on.
    fn sync(&mut self, is_meant: impl Fn(&Pending) -> bool, synced: Node) {
        for pending in std::mem::take(&mut self.pending) {
            if !is_meant(&pending) {
                self.pending.push(pending);
                continue;
            }
            match &pending {
                // Only the new name was synced: the old one may still be there.
                Pending::Rename { from, to, node } if to.0 == synced && from.0 != synced => {
                    self.durable.apply(&Pending::Name { directory: to.0, name: to.1.clone(), node: *node });
                    self.pending.push(Pending::NoName {
                        directory: from.0,
                        name: from.1.clone(),
                        node: *node,
                    });
                }
                pending => self.durable.apply(pending),
            }
        }
    }
}

impl SimulatedDisk {
    /// A disk that holds this, safely.
    pub fn with(tree: &Tree) -> Self {
        let mut state = State::default();
        state.0.insert(ROOT, Thing::Directory(BTreeMap::new()));
        let world = World {
            now: state.clone(),
            durable: state,
            pending: Vec::new(),
            next: ROOT + 1,
            trouble: None,
            operations: 0,
        };
        let disk = Self(Arc::new(Mutex::new(world)));
        let mut world = disk.world();
        for (path, content) in tree.iter().filter(|(path, _)| path.parent().is_some()) {
            let thing = match content {
                None => Thing::Directory(BTreeMap::new()),
                Some(content) => Thing::File(content.clone()),
            };
            world.make(path, thing).unwrap();
        }
        world.sync(|_| true, usize::MAX);
        assert!(world.pending.is_empty());
        drop(world);
        disk
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// The same disk, with trouble to come; operations are counted from here on.
    #[must_use]
    pub fn troubled(self, trouble: Trouble) -> Self {
        let mut world = self.world();
        (world.trouble, world.operations) = (Some(trouble), 0);
        drop(world);
        self
    }

    /// Another disk that is as this one is now, what is not synced included, and works.
    #[must_use]
    pub fn revived(&self) -> Self {
        let world = World { trouble: None, operations: 0, ..self.world().clone() };
        Self(Arc::new(Mutex::new(world)))
    }

    /// How many operations changed something, or tried.
    pub fn operations(&self) -> usize {
        self.world().operations
    }

    /// Something that is no operation on files, and that the process may die before.
    pub fn other_operation(&self) -> io::Result<()> {
        self.world().operate(false)
    }

    /// What is there now.
    pub fn tree(&self) -> Tree {
        self.world().now.tree()
    }

    /// What may be there after a power cut: all possibilities when there are at most `limit`, else so many of them,
    /// nothing lost and everything lost among them.
    pub fn after_power_cut(&self, limit: usize) -> BTreeSet<Tree> {
        let world = self.world();
        let outcomes: Vec<usize> = world
            .pending
            .iter()
            .map(|it| if matches!(it, Pending::Written { .. }) { 3 } else { 2 })
            .collect();
        let all = outcomes.iter().try_fold(1_usize, |all, it| all.checked_mul(*it)).unwrap_or(usize::MAX);
        // Steps that share no factor with 2 and 3 visit many different combinations.
        let step = if all <= limit { 1 } else { (all / limit) | 1 };
        let mut numbers: Vec<usize> = (0..limit.min(all)).map(|it| it.wrapping_mul(step) % all).collect();
        numbers.push(all - 1);
        let possibility = |mut number: usize| {
            let mut state = world.durable.clone();
            for (pending, outcomes) in world.pending.iter().zip(&outcomes) {
                let outcome = number % outcomes;
                number /= outcomes;
                match (outcome, pending) {
                    (0, _) => {}
                    (2, Pending::Written { node, bytes }) => {
                        let half = bytes[..bytes.len() / 2].to_vec();
                        state.apply(&Pending::Written { node: *node, bytes: half });
                    }
                    _ => state.apply(pending),
                }
            }
            state.tree()
        };
        let mut trees: BTreeSet<Tree> = numbers.into_iter().map(possibility).collect();
        // Only the process died.
        trees.insert(world.now.tree());
        trees
    }
}

impl Disk for SimulatedDisk {
    fn look(&self, path: &Path) -> io::Result<Option<Look>> {
        let world = self.world();
        world.alive()?;
        let node = match world.now.find(path) {
            Ok(node) => node,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(match &world.now.0[&node] {
            Thing::File(Content { mode, owner: (uid, gid), .. }) => {
                Look { kind: Kind::File, mode: *mode, uid: *uid, gid: *gid }
            }
            Thing::Directory(_) => Look { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0 },
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        let world = self.world();
        world.alive()?;
        match &world.now.0[&world.now.find(path)?] {
            Thing::File(content) => Ok(Box::new(Cursor::new(content.bytes.clone()))),
            Thing::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let world = self.world();
        world.alive()?;
        let names = world.now.directory(world.now.find(directory)?)?;
        Ok(names.keys().map(|name| directory.join(name)).collect())
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.world().now.find(path).map(|_| path.to_owned())
    }

    fn is_writable(&self, directory: &Path) -> bool {
        let world = self.world();
        world.now.find(directory).and_then(|node| world.now.directory(node).map(drop)).is_ok()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut world = self.world();
        world.operate(true)?;
        let node =
            world.make(path, Thing::File(Content { bytes: Vec::new(), mode: 0o600, owner: (0, 0) }))?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate(false)?;
        let node = world.now.find(from)?;
        let (from, to) = (world.place(from)?, world.place(to)?);
        world.change(Pending::Rename { from, to, node });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate(false)?;
        let node = world.now.find(path)?;
        let (directory, name) = world.place(path)?;
        world.change(Pending::NoName { directory, name, node });
        Ok(())
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate(true)?;
        world.make(path, Thing::Directory(BTreeMap::new())).map(drop)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate(false)?;
        let node = world.now.find(path)?;
        if !world.now.directory(node)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (directory, name) = world.place(path)?;
        world.change(Pending::NoName { directory, name, node });
        Ok(())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operate(false)?;
        let synced = world.now.find(directory)?;
        let in_it = |pending: &Pending| match pending {
            Pending::Name { directory, .. } | Pending::NoName { directory, .. } => *directory == synced,
            Pending::Rename { from, to, .. } => from.0 == synced || to.0 == synced,
            Pending::Written { .. } | Pending::Attributes { .. } => false,
        };
        world.sync(in_it, synced);
        Ok(())
    }

    fn lock(&self, directory: &Path) -> io::Result<Locked> {
        self.world().now.find(directory)?;
        Ok(Locked::Ours(Box::new(())))
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    node: Node,
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.node)
    }
}

impl Write for SimulatedFile {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.operate(true)?;
        let Some(Thing::File(content)) = world.now.0.get(&self.node) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let bytes = [&content.bytes[..], more].concat();
        world.change(Pending::Written { node: self.node, bytes });
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for SimulatedFile {
    fn set_owner(&mut self, uid: u32, gid: u32) -> io::Result<()> {
        let mut world = self.disk.world();
        world.operate(false)?;
        world.attributes(self.node, |content| content.owner = (uid, gid));
        Ok(())
    }

    fn set_mode(&mut self, mode: u32) -> io::Result<()> {
        let mut world = self.disk.world();
        world.operate(false)?;
        world.attributes(self.node, |content| content.mode = mode);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.operate(false)?;
        let node = self.node;
        let of_it = |pending: &Pending| matches!(pending, Pending::Written { node: it, .. } | Pending::Attributes { node: it, .. } if *it == node);
        world.sync(of_it, node);
        Ok(())
    }
}

mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> Content {
        Content { bytes: bytes.to_vec(), mode: 0o600, owner: (0, 0) }
    }

    fn disk() -> SimulatedDisk {
        SimulatedDisk::with(&Tree::from([("/".into(), None), ("/a".into(), Some(content(b"old")))]))
    }

    /// What may be read at `/a` after a power cut.
    fn at_a(disk: &SimulatedDisk) -> Vec<Option<Vec<u8>>> {
        let bytes = |tree: Tree| Some(tree.get(Path::new("/a"))?.as_ref()?.bytes.clone());
        let mut found: Vec<_> = disk.after_power_cut(1000).into_iter().map(bytes).collect();
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn without_a_sync_of_the_file_a_rename_may_give_anything() {
        let disk = disk();
        disk.create(Path::new("/b")).unwrap().write_all(b"newer!").unwrap();
        disk.rename(Path::new("/b"), Path::new("/a")).unwrap();
        let found = at_a(&disk);
        for expected in [&b""[..], b"new", b"newer!", b"old"] {
            assert!(found.contains(&Some(expected.to_vec())), "{found:?}");
        }
    }

    #[test]
    fn synced_file_and_directory_are_safe() {
        let disk = disk();
        let mut file = disk.create(Path::new("/b")).unwrap();
        file.write_all(b"new").unwrap();
        file.sync().unwrap();
        disk.rename(Path::new("/b"), Path::new("/a")).unwrap();
        assert_eq!(at_a(&disk), [Some(b"new".to_vec()), Some(b"old".to_vec())]);
        disk.sync_directory(Path::new("/")).unwrap();
        assert_eq!(at_a(&disk), [Some(b"new".to_vec())]);
        assert_eq!(disk.after_power_cut(1000).len(), 1);
    }
}
