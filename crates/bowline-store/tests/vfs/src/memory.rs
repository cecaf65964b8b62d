//! SQLite files in this process's memory: what a world of the simulator has instead of disks.
//!
//! SQLite has such a layer itself, but one whose files know no write-ahead log. Here the log, its shared index and all
//! locks work as on files, so that the store does what it does anywhere; only nobody else can see the files.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Arc, Mutex};

use rusqlite::ffi;

use crate::{Files, layer, lock};

/// Bytes of the log's index that SQLite asks for at once.
const REGION: usize = 32 * 1024;

/// A folder whose SQLite files are in memory. It is there on disk too, for whatever is not SQLite's.
///
/// Dropping it ends that for files opened later.
pub struct MemoryFolder {
    path: PathBuf,
    memory: Arc<Memory>,
}

/// The files of a folder by their names.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Arc<Mutex<Content>>>>);

static FOLDERS: Mutex<Option<HashMap<PathBuf, Arc<Memory>>>> = Mutex::new(None);

impl MemoryFolder {
    /// From now on SQLite finds these files directly in the folder of this path, which exists, and no others.
    ///
    /// # Panics
    /// When there is no such folder.
    #[must_use]
    pub fn new(path: &Path, files: Files) -> Self {
        layer::install();
        let path = path.canonicalize().expect("the folder exists");
        let content = |bytes| Arc::new(Mutex::new(Content { bytes, ..Content::default() }));
        let files = files.into_iter().filter(|(name, _)| !name.ends_with("-shm"));
        let files = files.map(|(name, bytes)| (name, content(bytes))).collect();
        let memory = Arc::new(Memory(Mutex::new(files)));
        lock(&FOLDERS).get_or_insert_default().insert(path.clone(), Arc::clone(&memory));
        MemoryFolder { path, memory }
    }

    /// What is in them now.
    #[must_use]
    pub fn files(&self) -> Files {
        lock(&self.memory.0).iter().map(|(name, content)| (name.clone(), lock(content).bytes.clone())).collect()
    }
}

impl Drop for MemoryFolder {
    fn drop(&mut self) {
        if let Some(folders) = lock(&FOLDERS).as_mut() {
            folders.remove(&self.path);
        }
    }
}

/// The folder in memory that a path is directly in, and the path's name there.
fn find(path: &Path) -> Option<(Arc<Memory>, String)> {
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    let memory = lock(&FOLDERS).as_ref()?.get(parent).cloned()?;
    Some((memory, name.to_owned()))
}

/// Whether a path is directly in a folder in memory.
pub(crate) fn has(path: &Path) -> bool {
    find(path).is_some()
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    find(path).is_some_and(|(memory, name)| lock(&memory.0).contains_key(&name))
}

/// Deletes a file. Whoever has it open keeps it.
pub(crate) fn delete(path: &Path) -> c_int {
    let gone = find(path).and_then(|(memory, name)| lock(&memory.0).remove(&name));
    if gone.is_some() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_DELETE_NOENT }
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Handles that read at least.
    readers: u32,
    /// The highest lock that only one may have.
    writer: c_int,
    index: Index,
}

/// The log's index, which connections share.
#[derive(Default)]
struct Index {
    /// Owned, each of [`REGION`] bytes. Raw, because SQLite has pointers into them meanwhile.
    regions: Vec<*mut [u64]>,
    /// Readers of each lock; -1 is a writer.
    locks: [i32; ffi::SQLITE_SHM_NLOCK as usize],
    /// Handles that have it.
    users: u32,
}

// SAFETY: the regions are owned; what is in them is SQLite's, which uses its locks.
unsafe impl Send for Index {}

impl Index {
    fn clear(&mut self) {
        for region in self.regions.drain(..) {
            // SAFETY: made from a box, and taken out of the list.
            drop(unsafe { Box::from_raw(region) });
        }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What SQLite has of a file.
#[repr(C)]
pub(crate) struct File {
    base: ffi::sqlite3_file,
    /// Owned.
    handle: *mut Handle,
}

struct Handle {
    content: Arc<Mutex<Content>>,
    level: c_int,
    /// Whether it has the index, and bits of its locks.
    has_index: bool,
    shared: u32,
    exclusive: u32,
}

/// Opens a file of a folder in memory.
///
/// # Safety
/// `file` has room for a [`File`]; `out_flags` is null or to be written.
pub(crate) unsafe fn open(path: &Path, file: *mut ffi::sqlite3_file, flags: c_int, out_flags: *mut c_int) -> c_int {
    let Some((memory, name)) = find(path) else { return ffi::SQLITE_CANTOPEN };
    let mut files = lock(&memory.0);
    // An empty file in the real folder is this one: the store makes it, to say who may read it.
    if !files.contains_key(&name) && flags & ffi::SQLITE_OPEN_CREATE == 0 && !path.exists() {
        return ffi::SQLITE_CANTOPEN;
    }
    let content = Arc::clone(files.entry(name).or_default());
    let handle = Handle { content, level: ffi::SQLITE_LOCK_NONE, has_index: false, shared: 0, exclusive: 0 };
    // SAFETY: by the contract above.
    unsafe {
        let ours = file.cast::<File>();
        (*ours).handle = Box::into_raw(Box::new(handle));
        (*ours).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

/// # Safety
/// `file` was opened by [`open`] and not closed. SQLite uses a file in one thread at a time.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Handle {
    // SAFETY: by the contract above.
    unsafe { &mut *(*file.cast::<File>()).handle }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite's file, closed once.
    unsafe {
        shm_unmap(file, 0);
        unlock(file, ffi::SQLITE_LOCK_NONE);
        drop(Box::from_raw((*file.cast::<File>()).handle));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: SQLite's file, and its buffer of `count` bytes.
    let (handle, to) = unsafe { (handle(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), count as usize)) };
    let content = lock(&handle.content);
    let there = content.bytes.get(at as usize..).unwrap_or_default();
    let there = &there[..there.len().min(to.len())];
    let (found, rest) = to.split_at_mut(there.len());
    found.copy_from_slice(there);
    rest.fill(0);
    if rest.is_empty() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: SQLite's file, and its buffer of `count` bytes.
    let (handle, from) = unsafe { (handle(file), std::slice::from_raw_parts(from.cast::<u8>(), count as usize)) };
    let bytes = &mut lock(&handle.content).bytes;
    let (at, end) = (at as usize, at as usize + from.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(from);
    ffi::SQLITE_OK
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: SQLite's file.
    lock(&unsafe { handle(file) }.content).bytes.resize(len as usize, 0);
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite's file, and its number.
    unsafe { *size = lock(&handle(file).content).bytes.len() as i64 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock_file(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite's file.
    let handle = unsafe { handle(file) };
    if handle.level >= level {
        return ffi::SQLITE_OK;
    }
    let mut content = lock(&handle.content);
    let mine = if handle.level > ffi::SQLITE_LOCK_SHARED { handle.level } else { ffi::SQLITE_LOCK_NONE };
    let others = content.writer > mine;
    if handle.level == ffi::SQLITE_LOCK_NONE {
        // Who waits for the readers to go lets no new ones in.
        if content.writer >= ffi::SQLITE_LOCK_PENDING {
            return ffi::SQLITE_BUSY;
        }
        content.readers += 1;
        handle.level = ffi::SQLITE_LOCK_SHARED;
    }
    if level == ffi::SQLITE_LOCK_SHARED {
        return ffi::SQLITE_OK;
    }
    if others {
        return ffi::SQLITE_BUSY;
    }
    if level == ffi::SQLITE_LOCK_EXCLUSIVE && content.readers > 1 {
        content.writer = ffi::SQLITE_LOCK_PENDING;
        handle.level = ffi::SQLITE_LOCK_PENDING;
        return ffi::SQLITE_BUSY;
    }
    content.writer = level;
    handle.level = level;
    ffi::SQLITE_OK
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite's file.
    let handle = unsafe { handle(file) };
    let mut content = lock(&handle.content);
    if handle.level > ffi::SQLITE_LOCK_SHARED && level <= ffi::SQLITE_LOCK_SHARED {
        content.writer = ffi::SQLITE_LOCK_NONE;
    }
    if handle.level > level && level == ffi::SQLITE_LOCK_NONE {
        content.readers -= 1;
    }
    handle.level = handle.level.min(level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, result: *mut c_int) -> c_int {
    // SAFETY: SQLite's file, and its number.
    unsafe { *result = c_int::from(lock(&handle(file).content).writer >= ffi::SQLITE_LOCK_RESERVED) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

/// As SQLite takes files to be: a power cut leaves bytes beside those written alone.
unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    to: *mut *mut c_void,
) -> c_int {
    if size as usize != REGION {
        return ffi::SQLITE_IOERR_SHMMAP;
    }
    // SAFETY: SQLite's file.
    let handle = unsafe { handle(file) };
    let index = &mut lock(&handle.content).index;
    if !std::mem::replace(&mut handle.has_index, true) {
        index.users += 1;
    }
    while extend != 0 && index.regions.len() <= region as usize {
        index.regions.push(Box::into_raw(vec![0; REGION / size_of::<u64>()].into_boxed_slice()));
    }
    let found = index.regions.get(region as usize);
    // SAFETY: SQLite's pointer.
    unsafe { *to = found.map_or(ptr::null_mut(), |region| region.cast()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: SQLite's file.
    let handle = unsafe { handle(file) };
    let locks = &mut lock(&handle.content).index.locks;
    let places = first as usize..(first + count) as usize;
    let mask: u32 = places.clone().map(|place| 1 << place).sum();
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        for place in places {
            match 1 << place {
                bit if handle.exclusive & bit != 0 => locks[place] = 0,
                bit if handle.shared & bit != 0 => locks[place] -= 1,
                _ => {}
            }
        }
        handle.exclusive &= !mask;
        handle.shared &= !mask;
    } else if flags & ffi::SQLITE_SHM_SHARED != 0 {
        if handle.shared & mask == 0 {
            if locks[places.clone()].iter().any(|lock| *lock < 0) {
                return ffi::SQLITE_BUSY;
            }
            places.for_each(|place| locks[place] += 1);
            handle.shared |= mask;
        }
    } else if handle.exclusive & mask != mask {
        if locks[places.clone()].iter().any(|lock| *lock != 0) {
            return ffi::SQLITE_BUSY;
        }
        locks[places].fill(-1);
        handle.exclusive |= mask;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// The index goes with its last user; the next one makes it anew from the log.
unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: SQLite's file.
    let handle = unsafe {
        shm_lock(file, 0, ffi::SQLITE_SHM_NLOCK, ffi::SQLITE_SHM_UNLOCK);
        handle(file)
    };
    if std::mem::take(&mut handle.has_index) {
        let index = &mut lock(&handle.content).index;
        index.users -= 1;
        if index.users == 0 {
            index.clear();
        }
    }
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock_file),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// What SQLite asks of a name in such a folder: whether it is there.
///
/// # Safety
/// `result` is to be written.
pub(crate) unsafe fn access(path: &Path, result: *mut c_int) -> c_int {
    // SAFETY: by the contract above.
    unsafe { *result = c_int::from(exists(path)) };
    ffi::SQLITE_OK
}

/// The full name of a path that is one already.
///
/// # Safety
/// `name` is a C string; `to` has room for `size` bytes.
pub(crate) unsafe fn full_path(name: *const c_char, size: c_int, to: *mut c_char) -> c_int {
    // SAFETY: by the contract above.
    unsafe {
        let bytes = std::ffi::CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > size as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), to, bytes.len());
    }
    ffi::SQLITE_OK
}
