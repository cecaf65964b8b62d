//! The file of device keys: any bytes are keys, or an error that says what is wrong and where. What is
//! read can be changed and read again.

#![no_main]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bowline_fuzz::Choices;
use bowline_server::{Date, Keys};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let (mark, sum) = (choices.flag(), choices.flag());
    let mut text = if mark { b"bowline keys 1\n".to_vec() } else { vec![] };
    text.extend_from_slice(choices.rest());
    if sum {
        // Without that, nothing but the checksum would ever be tested.
        let digest: String = Sha256::digest(&text)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        text.extend_from_slice(format!("end {digest}\n").as_bytes());
    }
    let folder = TempDir::new_in("/dev/shm").expect("a folder in memory");
    let file = folder.path().join("keys.txt");
    fs::write(&file, &text).expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("protected");
    match Keys::open(folder.path()) {
        Ok(keys) => goes_on(&keys, folder.path()),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(fs::read(&file).expect("still there"), text, "a damaged file was changed");
        }
    }
});

fn goes_on(keys: &Keys, folder: &Path) {
    let before = keys.list();
    assert_eq!(before.len(), keys.len());
    for device in &before {
        assert!(keys.knows(&device.id) && device.keys.len() <= 2, "{device:?}");
    }
    // A key for somebody new, or for somebody whose keys are revoked, or an error.
    let issued = keys.issue("new one", Date::from_unix(0)).is_ok();
    let known = before.iter().find(|device| device.id == "new one");
    assert!(!issued || known.is_none_or(|device| device.keys.is_empty()), "a second first key");
    let again = Keys::open(folder).expect("what was written");
    assert_eq!(again.list(), keys.list());
    assert_eq!(again.len(), before.len() + usize::from(issued && known.is_none()));
}
