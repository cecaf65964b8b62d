//! The C side: SQLite's file system interface, passed on to the one that was there before, or to `memory`.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Once};

use rusqlite::ffi;

use crate::{Call, Inode, Op, Watched, find, memory};

/// SQLite gives each file `szOsFile` bytes: this, and behind it the real file.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// Owned; null for files that are not watched.
    watched: *mut Handle,
}

struct Handle {
    watched: Arc<Watched>,
    name: String,
    inode: Inode,
    /// The next sync syncs the folder's names too.
    is_new: bool,
}

/// Makes this layer the default, once.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both calls are allowed at any time; the structures live for ever, because leaked. The
        // copy shares the real one's data and functions, which do not care whose they are called for,
        // except for those replaced here, which call on with the real one.
        unsafe {
            // Counts under a lock that all threads of the simulator wait for. Refused where SQLite runs already.
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0);
            let real = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!real.is_null(), "SQLite has a file system");
            let mut layer = *real;
            layer.zName = c"bowline-watch".as_ptr();
            layer.szOsFile = layer.szOsFile.max(size_of::<memory::File>() as c_int) + size_of::<File>() as c_int;
            layer.pNext = ptr::null_mut();
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            layer.xAccess = Some(access);
            layer.xFullPathname = Some(full_path);
            REAL.store(real, std::sync::atomic::Ordering::Release);
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(layer)), 1);
            assert_eq!(code, ffi::SQLITE_OK, "SQLite takes the layer");
        }
    });
}

static REAL: std::sync::atomic::AtomicPtr<ffi::sqlite3_vfs> = std::sync::atomic::AtomicPtr::new(ptr::null_mut());

fn real_vfs() -> *mut ffi::sqlite3_vfs {
    REAL.load(std::sync::atomic::Ordering::Acquire)
}

/// The real file behind ours.
fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite allocated `szOsFile` bytes, which is ours and the real one's together. `File`'s
    // size is a multiple of its alignment, a pointer's, which is what the real one wants too.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// The watch of a file; none if it is not watched.
///
/// # Safety
/// `file` was opened by [`open`] and not closed.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a mut Handle> {
    // SAFETY: `open` filled it in. SQLite uses a file in one thread at a time.
    unsafe { (*file.cast::<File>()).watched.as_mut() }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: called by SQLite, by its contract: `file` has room for both, `name` is null or a C string.
    unsafe {
        let ours = file.cast::<File>();
        (*ours).base.pMethods = ptr::null();
        (*ours).watched = ptr::null_mut();
        let code = if !name.is_null() && memory::has(path(name)) {
            memory::open(path(name), real(file), flags, out_flags)
        } else {
            let Some(xopen) = (*real_vfs()).xOpen else { return ffi::SQLITE_CANTOPEN };
            xopen(real_vfs(), name, real(file), flags, out_flags)
        };
        if code != ffi::SQLITE_OK {
            return code;
        }
        if !name.is_null()
            && let Some((watched, name)) = find(path(name))
        {
            let inode = watched.opened(&name);
            let journal = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
            let is_new = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journal != 0;
            (*ours).watched = Box::into_raw(Box::new(Handle { watched, name, inode, is_new }));
        }
        (*ours).base.pMethods = &raw const METHODS;
        code
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync_names: c_int) -> c_int {
    // SAFETY: called by SQLite with a C string.
    unsafe {
        let code = if memory::has(path(name)) {
            memory::delete(path(name))
        } else {
            let Some(xdelete) = (*real_vfs()).xDelete else { return ffi::SQLITE_IOERR_DELETE };
            xdelete(real_vfs(), name, sync_names)
        };
        if code == ffi::SQLITE_OK
            && let Some((watched, name)) = find(path(name))
        {
            watched.deleted(&name, sync_names != 0);
        }
        code
    }
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, name: *const c_char, what: c_int, result: *mut c_int) -> c_int {
    // SAFETY: called by SQLite with a C string and its number.
    unsafe {
        if memory::has(path(name)) {
            return memory::access(path(name), result);
        }
        let Some(xaccess) = (*real_vfs()).xAccess else { return ffi::SQLITE_IOERR_ACCESS };
        xaccess(real_vfs(), name, what, result)
    }
}

unsafe extern "C" fn full_path(_: *mut ffi::sqlite3_vfs, name: *const c_char, size: c_int, to: *mut c_char) -> c_int {
    // SAFETY: called by SQLite with a C string, and room for `size` bytes.
    unsafe {
        if memory::has(path(name)) {
            return memory::full_path(name, size, to);
        }
        let Some(full) = (*real_vfs()).xFullPathname else { return ffi::SQLITE_CANTOPEN };
        full(real_vfs(), name, size, to)
    }
}

/// # Safety
/// `name` is a C string that outlives the result.
unsafe fn path<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: by the contract above.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

/// Calls the real file's method.
macro_rules! pass {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let file = real($file);
        // SAFETY: called by SQLite, on a file that `open` opened; the arguments are SQLite's.
        unsafe {
            match (*(*file).pMethods).$method {
                Some(method) => method(file $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let code = pass!(file, xClose);
    // SAFETY: `open` made it from a box; SQLite closes once.
    unsafe {
        let ours = file.cast::<File>();
        if !(*ours).watched.is_null() {
            drop(Box::from_raw((*ours).watched));
            (*ours).watched = ptr::null_mut();
        }
    }
    code
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, count: c_int, at: i64) -> c_int {
    pass!(file, xRead, to, count, at)
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: SQLite's file.
    let Some(handle) = (unsafe { handle(file) }) else { return pass!(file, xWrite, from, count, at) };
    if let Some(code) = handle.watched.fails(Call::Write, &handle.name) {
        return code;
    }
    let code = pass!(file, xWrite, from, count, at);
    if code == ffi::SQLITE_OK {
        // SAFETY: `count` bytes to write are there.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count as usize) }.to_vec();
        handle.watched.done(Op::Write { inode: handle.inode, offset: at as usize, bytes });
    }
    code
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: SQLite's file.
    let Some(handle) = (unsafe { handle(file) }) else { return pass!(file, xTruncate, len) };
    if let Some(code) = handle.watched.fails(Call::Truncate, &handle.name) {
        return code;
    }
    let code = pass!(file, xTruncate, len);
    if code == ffi::SQLITE_OK {
        handle.watched.done(Op::Truncate { inode: handle.inode, len: len as usize });
    }
    code
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite's file.
    let Some(handle) = (unsafe { handle(file) }) else { return pass!(file, xSync, flags) };
    let inode = handle.inode;
    if let Some(code) = handle.watched.fails(Call::Sync, &handle.name) {
        handle.watched.done(Op::SyncFailed { inode });
        return code;
    }
    let code = pass!(file, xSync, flags);
    handle.watched.done(match code {
        ffi::SQLITE_OK => Op::Sync { inode, names: std::mem::take(&mut handle.is_new) },
        _ => Op::SyncFailed { inode },
    });
    code
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    pass!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, result: *mut c_int) -> c_int {
    pass!(file, xCheckReservedLock, result)
}

unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, what: c_int, argument: *mut c_void) -> c_int {
    pass!(file, xFileControl, what, argument)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file, xSectorSize)
}

unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    to: *mut *mut c_void,
) -> c_int {
    pass!(file, xShmMap, page, size, extend, to)
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    pass!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    let file = real(file);
    // SAFETY: as in `pass!`, but this one returns nothing.
    unsafe {
        if let Some(method) = (*(*file).pMethods).xShmBarrier {
            method(file);
        }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    pass!(file, xShmUnmap, delete)
}

unsafe extern "C" fn fetch(_: *mut ffi::sqlite3_file, _: i64, _: c_int, to: *mut *mut c_void) -> c_int {
    // No memory mapping: every write is to be seen.
    // SAFETY: SQLite's pointer.
    unsafe { *to = ptr::null_mut() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn unfetch(_: *mut ffi::sqlite3_file, _: i64, _: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};
