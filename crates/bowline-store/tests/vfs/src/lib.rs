//! A layer under SQLite, for tests: it records what is written and synced in watched folders, and
//! fails on demand. Everything else goes through unchanged, to the disk or, on demand, to memory.
//!
//! Why a layer of our own: it sees the real program's real order of writes, syncs and deletions, in
//! this process, without root and without `strace`, and the same layer makes a sync fail. Crates for
//! SQLite layers exist, but they replace the files (and the shared memory that the log needs) instead
//! of passing them on, and one of them wants libclang to build.
//!
//! It becomes SQLite's default on first use, so the store under test needs no hook for it. Unwatched
//! files cost one look-up when they are opened.

mod crash;
mod disk;
mod layer;
mod memory;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use crash::Folder;
pub use disk::Disk;
pub use memory::MemoryFolder;

/// What is in the files of a folder, by their names.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of a folder.
///
/// # Panics
/// When they cannot be read.
#[must_use]
pub fn read(folder: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            files.insert(name.to_owned(), fs::read(&path).expect("a file"));
        }
    }
    files
}

/// Puts files into a folder.
///
/// # Panics
/// When they cannot be written.
pub fn write(files: &Files, folder: &Path) {
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("written");
    }
}

/// A file's identity, as a disk has it: a name that is deleted and made again is another one.
pub type Inode = usize;

/// Something that happened to a watched folder. What failed is not among it, but for syncs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A name appeared.
    Create {
        /// In the folder.
        name: String,
        /// Of this file.
        inode: Inode,
    },
    /// Bytes were written.
    Write {
        /// Where.
        inode: Inode,
        /// From which byte on.
        offset: usize,
        /// Which.
        bytes: Vec<u8>,
    },
    /// A file was cut or extended.
    Truncate {
        /// Which.
        inode: Inode,
        /// To how many bytes.
        len: usize,
    },
    /// A file's bytes were synced.
    Sync {
        /// Which.
        inode: Inode,
        /// The folder's names were synced too: SQLite does this at a log's first sync.
        names: bool,
    },
    /// A sync failed. The system forgets which bytes were not written; later syncs do not write them.
    SyncFailed {
        /// Which.
        inode: Inode,
    },
    /// A name was deleted.
    Delete {
        /// In the folder.
        name: String,
        /// The folder's names were synced too.
        names: bool,
    },
    /// The test's own note ([`Watch::mark`]).
    Mark(u64),
}

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Writing bytes.
    Write,
    /// Syncing a file.
    Sync,
    /// Cutting a file.
    Truncate,
}

/// Decides whether a call on a file of this name fails, and with which of SQLite's result codes.
pub type Fail = Box<dyn FnMut(Call, &str) -> Option<i32> + Send>;

/// Calls that wait for as long as this lives.
pub struct Hold {
    gate: Arc<Gate>,
}

/// Where calls of one kind wait.
struct Gate {
    call: Call,
    state: Mutex<Passage>,
    opened: Condvar,
    reached: Condvar,
}

#[derive(Default)]
struct Passage {
    waiting: usize,
    open: bool,
}

impl Hold {
    /// Whether a call waits.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        lock(&self.gate.state).waiting > 0
    }

    /// Blocks until a call waits.
    ///
    /// # Panics
    /// If none does in time.
    pub fn reached(&self) {
        let state = lock(&self.gate.state);
        let wait = self.gate.reached.wait_timeout_while(state, PATIENCE, |passage| passage.waiting == 0);
        assert!(!wait.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "a call is made in time");
    }
}

/// How long a call that is waited for may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.gate.state).open = true;
        self.gate.opened.notify_all();
    }
}

impl Gate {
    fn pass(&self) {
        let mut passage = lock(&self.state);
        passage.waiting += 1;
        self.reached.notify_all();
        while !passage.open {
            passage = self.opened.wait(passage).unwrap_or_else(PoisonError::into_inner);
        }
        passage.waiting -= 1;
    }
}

/// A folder being watched. Dropping it ends that for files opened later.
pub struct Watch {
    folder: PathBuf,
    shared: Arc<Watched>,
}

#[derive(Default)]
struct Watched {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    names: HashMap<String, Inode>,
    inodes: usize,
    syncs: u64,
    fail: Option<Fail>,
    gate: Option<Arc<Gate>>,
}

static WATCHED: Mutex<Vec<(PathBuf, Arc<Watched>)>> = Mutex::new(Vec::new());

impl Watch {
    /// Watches the files directly in `folder`, which exists. Those that are there already are known when they are
    /// opened.
    ///
    /// # Panics
    /// When there is no such folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        layer::install();
        let folder = folder.canonicalize().expect("the folder to watch exists");
        let shared = Arc::new(Watched::default());
        lock(&WATCHED).push((folder.clone(), Arc::clone(&shared)));
        Watch { folder, shared }
    }

    /// Puts a note among what happens.
    pub fn mark(&self, note: u64) {
        self.shared.lock().ops.push(Op::Mark(note));
    }

    /// A way to put notes there from elsewhere.
    pub fn marker(&self) -> impl Fn(u64) + Send + Sync + Clone + 'static {
        let shared = Arc::clone(&self.shared);
        move |note| shared.lock().ops.push(Op::Mark(note))
    }

    /// What has happened so far.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.shared.lock().ops.clone()
    }

    /// What has happened since this was last called.
    #[must_use]
    pub fn take_ops(&self) -> Vec<Op> {
        std::mem::take(&mut self.shared.lock().ops)
    }

    /// Syncs that went well so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.shared.lock().syncs
    }

    /// Makes calls fail from now on.
    pub fn fail(&self, fail: impl FnMut(Call, &str) -> Option<i32> + Send + 'static) {
        self.shared.lock().fail = Some(Box::new(fail));
    }

    /// From now on calls of this kind wait, until what is returned is dropped.
    #[must_use]
    pub fn hold(&self, call: Call) -> Hold {
        let gate = Arc::new(Gate { call, state: Mutex::default(), opened: Condvar::new(), reached: Condvar::new() });
        self.shared.lock().gate = Some(Arc::clone(&gate));
        Hold { gate }
    }

    /// Lets everything go well again.
    pub fn heal(&self) {
        self.shared.lock().fail = None;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&WATCHED).retain(|(folder, _)| *folder != self.folder);
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A file was opened: its identity.
    fn opened(&self, name: &str) -> Inode {
        let mut state = self.lock();
        if let Some(inode) = state.names.get(name) {
            return *inode;
        }
        let inode = state.inodes;
        state.inodes += 1;
        state.names.insert(name.to_owned(), inode);
        state.ops.push(Op::Create { name: name.to_owned(), inode });
        inode
    }

    fn deleted(&self, name: &str, names: bool) {
        let mut state = self.lock();
        if state.names.remove(name).is_some() {
            state.ops.push(Op::Delete { name: name.to_owned(), names });
        }
    }

    /// Whether a call is to fail, once it need not wait any more.
    fn fails(&self, call: Call, name: &str) -> Option<i32> {
        let gate = self.lock().gate.clone();
        if let Some(gate) = gate.filter(|gate| gate.call == call) {
            gate.pass();
        }
        self.lock().fail.as_mut().and_then(|fail| fail(call, name))
    }

    fn done(&self, op: Op) {
        let mut state = self.lock();
        if matches!(op, Op::Sync { .. }) {
            state.syncs += 1;
        }
        state.ops.push(op);
    }
}

/// The watched folder that a path is directly in, and the path's name there.
fn find(path: &Path) -> Option<(Arc<Watched>, String)> {
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    let watched = lock(&WATCHED).iter().find(|(folder, _)| folder == parent).map(|(_, shared)| Arc::clone(shared))?;
    Some((watched, name.to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
