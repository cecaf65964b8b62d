//! A disk that is really full. Needs to be root, for a small disk of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bowline_store::{CommitError, Durability, Health, Limits, Store};
use tempfile::TempDir;

use crate::harness::{processed, receive, see};
use bowline_store::{Change, Millis};

/// A disk in memory, taken away at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(SmallDisk(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_and_space_is_all_it_takes() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a small disk cannot be mounted here (needs root)");
        return;
    };
    for durability in [Durability::Fsync, Durability::Os] {
        let folder = disk.path().join(format!("{durability:?}"));
        let [ballast, more_ballast] = ["ballast", "more"].map(|name| disk.path().join(name));
        let store = Store::open(&folder, durability, Limits { log_pages: 50, ..Limits::default() }).expect("opens");
        fs::write(&ballast, vec![1; 700_000]).expect("there is room");
        fs::write(&more_ballast, vec![1; 300_000]).expect("there is room");
        store.commit(Change::device("a", true, Millis(0))).wait().expect("commits");
        let fill = |mut n: u64| loop {
            match store.commit(receive("a", n, &[n as u8; 4_000])).wait() {
                Ok(_) => n += 1,
                Err(error) => {
                    assert_eq!(error, CommitError::Full);
                    return n;
                }
            }
        };
        let have = |n: u64| {
            let seen = see(&store);
            let inbox = &seen.devices["a"].inbox;
            assert_eq!(inbox.iter().map(|m| m.seq.0).collect::<Vec<_>>(), (1..n).collect::<Vec<_>>());
            assert!(inbox.iter().all(|message| message.payload[..] == [message.seq.0 as u8; 4_000][..]));
        };
        let full = fill(1);
        assert!(matches!(store.health(), Health::Degraded { .. }));
        have(full);
        store.commit(receive("a", full, &[full as u8; 4_000])).wait().expect_err("still full");
        let in_place = store.commit_in_place(receive("a", full, &[full as u8; 4_000]).into());
        assert!(in_place.is_err(), "{durability:?}: only the writer's thread can find space");

        fs::remove_file(&ballast).expect("removed");
        store.commit(receive("a", full, &[full as u8; 4_000])).wait().expect("there is space");
        assert_eq!(store.health(), Health::Good);
        have(full + 1);

        // Full once more. With a little space the app can make more.
        let full = fill(full + 1);
        have(full);
        fs::remove_file(&more_ballast).expect("removed");
        store.commit(processed("a", full - 1)).wait().expect("taking messages needs little space");
        store.commit(receive("a", full, &[full as u8; 4_000])).wait().expect("their space is used again");
        assert_eq!(store.health(), Health::Good);
        drop(store);
        fs::remove_dir_all(&folder).expect("removed");
    }
}

#[test]
fn a_store_cannot_be_made_on_a_full_disk_and_says_so() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a small disk cannot be mounted here (needs root)");
        return;
    };
    let ballast = disk.path().join("ballast");
    // Until it is full.
    let _ = fs::write(&ballast, vec![1; 3 << 20]);
    let folder = disk.path().join("store");
    let error = Store::open(&folder, Durability::Fsync, Limits::default()).expect_err("the disk is full");
    println!("{error}");
    fs::remove_file(&ballast).expect("removed");
    Store::open(&folder, Durability::Fsync, Limits::default()).expect("what was begun does no harm");
}
