//! The registry of keys and its file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bowline_server::{Date, KeyId, KeyState, Keys, KeysError};
use tempfile::TempDir;

fn today() -> Date {
    Date::from_unix(1_793_664_000)
}

fn key_id(id: u8) -> KeyId {
    KeyId::new(id).expect("not 0")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our file");
}

/// Key ids and states of a device.
fn states(keys: &Keys, id: &str) -> Vec<(u8, KeyState)> {
    let device = keys.list().into_iter().find(|device| device.id == id).expect("a known id");
    device.keys.iter().map(|key| (key.key_id.get(), key.state)).collect()
}

#[test]
fn keys_are_made_rotated_revoked_and_removed() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    let first = keys.issue("kitchen", today()).unwrap();
    assert_eq!((first.key_id, states(&keys, "kitchen")), (key_id(1), vec![(1, KeyState::Live)]));
    assert!(matches!(keys.issue("kitchen", today()), Err(KeysError::HasKey { key_id, .. }) if key_id == first.key_id));

    let second = keys.rotate("kitchen", today()).unwrap();
    assert_eq!(states(&keys, "kitchen"), [(1, KeyState::Outgoing), (2, KeyState::Incoming)]);
    assert_ne!(*first.line(), *second.line());
    assert!(matches!(keys.rotate("kitchen", today()), Err(KeysError::Rotating { .. })));
    assert!(matches!(keys.revoke("kitchen", Some(key_id(3))), Err(KeysError::NoSuchKey { .. })));
    // The new one was lost on the way to the board.
    assert_eq!(keys.revoke("kitchen", Some(key_id(2))).unwrap(), [key_id(2)]);
    assert_eq!(keys.rotate("kitchen", today()).unwrap().key_id, key_id(3), "a revoked key id does not come again");
    assert_eq!(keys.revoke("kitchen", None).unwrap(), [key_id(1), key_id(3)]);
    assert!(keys.knows("kitchen") && states(&keys, "kitchen").is_empty());
    assert!(matches!(keys.rotate("kitchen", today()), Err(KeysError::Revoked { .. })));
    assert!(matches!(keys.revoke("kitchen", None), Err(KeysError::Revoked { .. })));
    assert_eq!(keys.issue("kitchen", today()).unwrap().key_id, key_id(4));

    keys.remove("kitchen").unwrap();
    assert!(!keys.knows("kitchen"));
    for result in [keys.remove("kitchen"), keys.revoke("kitchen", None).map(drop)] {
        assert!(matches!(result, Err(KeysError::Unknown { .. })));
    }
    for id in ["", "tab\tbed", &"x".repeat(97), &"x".repeat(200)] {
        assert!(matches!(keys.issue(id, today()), Err(KeysError::Id { .. } | KeysError::IdTooLong { .. })), "{id}");
    }
    assert!(keys.is_empty());
}

#[test]
fn key_ids_go_round_without_meeting_a_live_one() {
    let keys = Keys::default();
    keys.issue("d", today()).unwrap();
    for _ in 0..600 {
        let new = keys.rotate("d", today()).unwrap().key_id;
        assert_ne!(new, key_id(1));
        keys.revoke("d", Some(new)).unwrap();
    }
    assert_eq!(states(&keys, "d"), [(1, KeyState::Live)]);
}

#[test]
fn the_file_is_for_its_owner_only() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("new").join("data");
    let keys = Keys::open(&folder).unwrap();
    assert!(!folder.exists(), "reading makes nothing");
    keys.issue("kitchen", today()).unwrap();
    let file = folder.join("keys.txt");
    assert_eq!((mode(&folder), mode(&file), mode(&folder.join("keys.lock"))), (0o700, 0o600, 0o600));

    let before = fs::read(&file).unwrap();
    for open in [0o640, 0o604, 0o660, 0o666] {
        set_mode(&file, open);
        let error = Keys::open(&folder).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(&format!("{open:o}")), "{error}");
        assert!(matches!(keys.issue("attic", today()), Err(KeysError::Exposed { .. })));
        assert!(matches!(keys.reload(), Err(KeysError::Exposed { .. })));
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    set_mode(&file, 0o400);
    assert_eq!(Keys::open(&folder).unwrap().list(), keys.list());
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    for number in 0..20 {
        keys.issue(&format!("device {number}"), today()).unwrap();
    }
    let file = folder.path().join("keys.txt");
    let whole = fs::read_to_string(&file).unwrap();
    let damaged = [
        whole[..whole.len() / 2].to_owned(),
        whole.replace("device 7", "device 70"),
        whole.replacen("bowline keys 1", "bowline keys 2", 1),
        format!("{whole}device 1 more\n"),
        String::new(),
    ];
    for text in damaged {
        fs::write(&file, &text).unwrap();
        let error = Keys::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("line ") && error.contains("expected") && error.contains("backup"), "{error}");
        assert!(matches!(keys.issue("attic", today()), Err(KeysError::Damaged { .. })));
        assert!(matches!(keys.reload(), Err(KeysError::Damaged { .. })));
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(keys.len(), 20, "in force is what was");
    }
    fs::write(&file, b"bowline keys 1\n\xff\n").unwrap();
    assert!(Keys::open(folder.path()).unwrap_err().to_string().contains("line 2"));
    fs::remove_file(&file).unwrap();
    assert!(matches!(keys.reload(), Err(KeysError::Gone(_))));
    assert!(matches!(keys.issue("attic", today()), Err(KeysError::Gone(_))));
    assert!(keys.knows("device 7"), "a file that is gone opens no id");
}

#[test]
fn what_a_killed_writer_left_is_replaced() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("keys.txt.new"), "half").unwrap();
    fs::write(folder.path().join("keys.lock"), "").unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    keys.issue("kitchen", today()).unwrap();
    assert!(!folder.path().join("keys.txt.new").exists());
    assert_eq!(Keys::open(folder.path()).unwrap().list(), keys.list());
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    keys.issue("kitchen", today()).unwrap();
    // Where the new file would be, something that cannot be removed.
    fs::create_dir_all(folder.path().join("keys.txt.new").join("in the way")).unwrap();
    let error = keys.issue("attic", today()).unwrap_err();
    assert!(matches!(error, KeysError::Io { .. }) && error.to_string().contains("keys.txt.new"), "{error}");
    assert_eq!(keys.len(), 1);
    assert_eq!(Keys::open(folder.path()).unwrap().len(), 1);
}

#[test]
fn writers_wait_for_each_other() {
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = folder.path();
            // Four registries, as in four processes.
            scope.spawn(move || {
                let keys = Keys::open(path).unwrap();
                for number in 0..10 {
                    keys.issue(&format!("{writer}-{number}"), today()).unwrap();
                }
            });
        }
    });
    assert_eq!(Keys::open(folder.path()).unwrap().len(), 40);
}

#[test]
fn reloading_says_what_another_process_has_changed() {
    let folder = TempDir::new().unwrap();
    let other = Keys::open(folder.path()).unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    assert!(keys.reload().unwrap().is_empty());
    for id in ["kitchen", "attic", "cellar"] {
        other.issue(id, today()).unwrap();
    }
    assert_eq!(keys.reload().unwrap().added.len(), 3);
    other.rotate("kitchen", today()).unwrap();
    other.revoke("attic", None).unwrap();
    other.remove("cellar").unwrap();
    assert!(keys.knows("cellar"), "not yet");
    let changes = keys.reload().unwrap();
    assert_eq!(changes.added, [("kitchen".to_owned(), key_id(2))]);
    assert_eq!(changes.revoked, [("attic".to_owned(), key_id(1)), ("cellar".to_owned(), key_id(1))]);
    assert_eq!(changes.removed, ["cellar"]);
    assert!(keys.knows("attic") && !keys.knows("cellar"));
    // Removed and made anew is another key, under the same key id.
    other.remove("kitchen").unwrap();
    other.issue("kitchen", today()).unwrap();
    let changes = keys.reload().unwrap();
    assert_eq!(changes.added, [("kitchen".to_owned(), key_id(1))]);
    assert_eq!(changes.revoked, [("kitchen".to_owned(), key_id(1)), ("kitchen".to_owned(), key_id(2))]);
    assert!(changes.removed.is_empty());
}

#[test]
fn what_is_shown_holds_no_key() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::open(folder.path()).unwrap();
    let issued = keys.issue("kitchen", today()).unwrap();
    let line = issued.line();
    let secret = line.split(':').nth(2).unwrap();
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    let file = damaged.join("keys.txt");
    let text = fs::read_to_string(folder.path().join("keys.txt")).unwrap();
    let mut shown = format!("{keys:?} {issued:?} {:?}", keys.list());
    for text in [text.replace("kitchen", "kitschen"), text.replace(secret, &secret[1..])] {
        fs::write(&file, text).unwrap();
        set_mode(&file, 0o600);
        let error = Keys::open(&damaged).unwrap_err();
        shown += &format!("{error} {error:?}");
    }
    assert!(!shown.contains(&secret[1..8]), "{shown}");
}
