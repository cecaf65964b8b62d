//! The line a board is set up with (§15.3).

use bowline_proto::IdError;
use bowline_secure::{ErasedKey, Key, KeyId, MAX_PROVISION, Provision, ProvisionError};

use crate::support::{Random, id, key, key_id};

fn written(provision: &Provision<'_>) -> String {
    let mut line = String::new();
    provision.write_secret(&mut line).unwrap();
    line
}

#[test]
fn a_line_brings_back_what_was_written() {
    let mut random = Random(5);
    let long = "x".repeat(96);
    for name in ["kitchen", "küche", "a:b:c", " ", "bowline1:", &long] {
        for number in [1, 9, 10, 99, 100, 255] {
            let provision = Provision { id: id(name), key_id: key_id(number), key: key(random.next()) };
            let line = written(&provision);
            assert!(line.len() <= MAX_PROVISION && line.starts_with(&format!("bowline1:{number}:")), "{line}");
            for variant in [line.clone(), format!("{line}\n"), format!("{line}\r\n")] {
                assert_eq!(Provision::parse(&variant).as_ref(), Ok(&provision), "{variant}");
            }
        }
    }
    let provision = Provision { id: id(&long), key_id: key_id(255), key: key(1) };
    assert_eq!(written(&provision).len(), MAX_PROVISION);
    assert!(!format!("{provision:?}").contains(&written(&provision)[13..60]));
}

#[test]
fn letters_of_the_key_may_be_small() {
    let line = written(&Provision { id: id("KITCHEN"), key_id: key_id(1), key: key(3) });
    let small = line.replace("KITCHEN", "#").to_lowercase().replace('#', "KITCHEN");
    assert_eq!(Provision::parse(&small), Provision::parse(&line));
}

#[test]
fn no_single_wrong_character_is_taken() {
    let provision = Provision { id: id("kitchen-7"), key_id: key_id(12), key: key(3) };
    let line = written(&provision);
    let mut attempts = 0;
    for at in 0..line.len() {
        for letter in (b' '..=b'~').map(char::from) {
            let mut changed = line.clone();
            changed.replace_range(at..=at, letter.encode_utf8(&mut [0; 4]));
            if Provision::parse(&changed).as_ref() != Ok(&provision) {
                assert!(Provision::parse(&changed).is_err(), "{changed}");
                attempts += 1;
            } else {
                assert!(changed.eq_ignore_ascii_case(&line));
            }
        }
        assert!(Provision::parse(&line[..at]).is_err());
    }
    assert!(attempts > 6_000);
}

#[test]
fn errors_say_which_part_is_wrong() {
    let line = written(&Provision { id: id("d"), key_id: key_id(1), key: key(3) });
    let key = &line[11..67];
    let parse = |line: &str| Provision::parse(line).unwrap_err();
    assert_eq!(parse("bowline2:1:x:d"), ProvisionError::Prefix);
    assert_eq!(parse("bowline1:1"), ProvisionError::Incomplete);
    assert_eq!(parse(&format!("bowline1:1:{key}")), ProvisionError::Incomplete);
    for number in ["", "0", "01", "256", "1000", "+1", "x"] {
        assert_eq!(parse(&format!("bowline1:{number}:{key}:d")), ProvisionError::KeyId, "{number}");
    }
    assert_eq!(parse(&format!("bowline1:1:{}:d", &key[1..])), ProvisionError::Key);
    assert_eq!(parse(&format!("bowline1:1:1{}:d", &key[1..])), ProvisionError::Key);
    assert_eq!(parse(&format!("bowline1:1:{key}:")), ProvisionError::Id(IdError::Empty));
    assert_eq!(parse(&format!("bowline1:1:{key}:{}", "d".repeat(97))), ProvisionError::IdTooLong { len: 97 });
    assert_eq!(parse(&format!("bowline1:1:{key}:e")), ProvisionError::Checksum);
    assert_eq!(parse(&format!("bowline1:2:{key}:d")), ProvisionError::Checksum);
}

#[test]
fn memory_that_was_never_written_is_no_key() {
    for byte in [0, 0xff, 0x41] {
        assert_eq!(Key::new(&[byte; 32]).err(), Some(ErasedKey));
    }
    assert_eq!(KeyId::new(0), None);
    assert_eq!((KeyId::FIRST.get(), key_id(7).next(), key_id(255).next()), (1, key_id(8), KeyId::FIRST));
    assert!(key(1) == key(1) && key(1) != key(2));
}
