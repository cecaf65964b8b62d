//! The text of the key file.
//!
//! ```text
//! bowline keys 1
//! # …
//! device 2 kitchen                                  the key id given last, the device id
//! key 2026-11-03 bowline1:1:AAAQ…24W:kitchen        a live key, the older one first
//! key 2026-11-04 bowline1:2:BEBB…Q3A:kitchen
//! device 1 attic                                    had a key, which was revoked
//! end 5f0c3a9be1d24470                              of everything above
//! ```
//!
//! A lost line could open an id to everybody. So the last one holds a checksum, and what does not
//! fit is refused as a whole.

use std::fmt::Write as _;

use bowline_proto::DeviceId;
use bowline_secure::{KeyId, MAX_ID, MAX_PROVISION, Provision};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Date;
use super::table::{Entry, Live, Table};

const FIRST: &str = "bowline keys 1";
const NOTE: &str = "# Whoever can read this file can be any of these devices. Only `bowline key` changes it.";

/// What is wrong with a line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) expected: &'static str,
}

/// Reads the text. Never says any of it.
pub(super) fn parse(text: &str) -> Result<Table, Wrong> {
    let mut table = Table::default();
    let mut current: Option<Box<str>> = None;
    let mut done = false;
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let wrong = |expected| Wrong { line: number + 1, expected };
        let before = &text[..at];
        at += line.len();
        let line = line.strip_suffix('\n').ok_or_else(|| wrong("a whole line"))?;
        if done {
            return Err(wrong("nothing after the line that begins with `end`"));
        }
        match line.split_once(' ') {
            _ if number == 0 => {
                if line != FIRST {
                    return Err(wrong("`bowline keys 1`, the mark of this version's key file"));
                }
            }
            Some(("#", _)) => {}
            Some(("device", rest)) => {
                let (last, id) = rest.split_once(' ').ok_or_else(|| wrong("`device LAST_KEY_ID ID`"))?;
                let last = key_id(last).ok_or_else(|| wrong("a key id from 1 to 255"))?;
                let known = DeviceId::new(id).is_ok_and(|id| id.as_str().len() <= MAX_ID);
                if !known || table.0.insert(id.into(), Entry { last, live: Vec::new() }).is_some() {
                    return Err(wrong("a device id that was not there before"));
                }
                current = Some(id.into());
            }
            Some(("key", rest)) => {
                let (created, provision) = rest.split_once(' ').ok_or_else(|| wrong("`key DATE PROVISION`"))?;
                let created = Date::parse(created).ok_or_else(|| wrong("a date such as 2026-11-03"))?;
                let provision = Provision::parse(provision).map_err(|_| wrong("a whole provisioning line"))?;
                let entry = current
                    .as_ref()
                    .filter(|id| ***id == *provision.id.as_str())
                    .and_then(|id| table.0.get_mut(id))
                    .ok_or_else(|| wrong("a key of the device above it"))?;
                if entry.live.len() == 2 || entry.live.iter().any(|live| live.id == provision.key_id) {
                    return Err(wrong("at most two keys of a device, with different key ids"));
                }
                entry.live.push(Live { id: provision.key_id, key: provision.key, created });
            }
            Some(("end", sum)) => {
                if sum != checksum(before) {
                    return Err(wrong("the checksum of all lines above"));
                }
                done = true;
            }
            _ => return Err(wrong("a line that begins with `device`, `key` or `end`")),
        }
    }
    if done {
        Ok(table)
    } else {
        Err(Wrong { line: text.lines().count() + 1, expected: "a line that begins with `end`" })
    }
}

/// Writes the text.
pub(super) fn emit(table: &Table) -> Zeroizing<String> {
    let devices = table.0.len() * (MAX_ID + 16);
    let keys = table.0.values().map(|entry| entry.live.len()).sum::<usize>() * (MAX_PROVISION + 32);
    // Room for all of it: growing would leave copies of keys behind.
    let mut text = Zeroizing::new(String::with_capacity(FIRST.len() + NOTE.len() + devices + keys + 64));
    // Nothing fails to be written into memory.
    let _ = writeln!(text, "{FIRST}\n{NOTE}");
    for (id, entry) in &table.0 {
        let _ = writeln!(text, "device {} {id}", entry.last);
        // Ids are checked when they come in.
        let Ok(id) = DeviceId::new(id) else { continue };
        for live in &entry.live {
            let _ = write!(text, "key {} ", live.created);
            let _ = Provision { id, key_id: live.id, key: live.key.clone() }.write_secret(&mut *text);
            let _ = writeln!(text);
        }
    }
    let sum = checksum(&text);
    let _ = writeln!(text, "end {sum}");
    text
}

fn key_id(text: &str) -> Option<KeyId> {
    text.parse().ok().and_then(KeyId::new).filter(|id| id.to_string() == text)
}

fn checksum(text: &str) -> String {
    Sha256::digest(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let today = Date::from_unix(1_793_664_000);
        let mut table = Table::default();
        for id in ["kitchen", "with space: and colon", "grün", "revoked"] {
            table.issue(id, today).unwrap();
        }
        table.rotate("kitchen", today).unwrap();
        table.revoke("revoked", None).unwrap();
        table
    }

    #[test]
    fn what_is_written_is_read() {
        let table = table();
        let text = emit(&table);
        let read = parse(&text).unwrap();
        assert_eq!(*emit(&read), *text);
        assert!(read.since(&table).is_empty() && table.since(&read).is_empty());
        assert_eq!(*emit(&parse(&emit(&Table::default())).unwrap()), *emit(&Table::default()));
    }

    #[test]
    fn no_line_can_be_lost_changed_doubled_or_added() {
        let text = emit(&table());
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        for at in 0..lines.len() {
            let mut without = lines.clone();
            without.remove(at);
            assert!(parse(&without.concat()).is_err(), "without line {}", at + 1);
            let mut twice = lines.clone();
            twice.insert(at, lines[at]);
            assert!(parse(&twice.concat()).is_err(), "line {} twice", at + 1);
        }
        for end in 0..text.len() {
            assert!(text.get(..end).is_none_or(|cut| parse(cut).is_err()), "cut to {end} bytes");
        }
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1;
            let read = std::str::from_utf8(&bytes).ok().and_then(|text| parse(text).ok());
            assert!(read.is_none(), "byte {at}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let text = emit(&table());
        let wrong = |text: &str| parse(text).unwrap_err();
        assert_eq!(wrong("").line, 1);
        assert_eq!(wrong("bowline keys 2\n").line, 1);
        let third = |line: &str| wrong(&format!("{FIRST}\n{NOTE}\n{line}\n"));
        for (line, expected) in [
            ("devise 1 kitchen", "`device`"),
            ("device 1", "LAST_KEY_ID"),
            ("device 0 kitchen", "1 to 255"),
            ("device 1 ", "device id"),
            ("key 2026-11-03 bowline1:1:x:kitchen", "provisioning"),
            ("key 2026-11-3 x", "date"),
            ("end 0011", "checksum"),
        ] {
            let wrong = third(line);
            assert!(wrong.line == 3 && wrong.expected.contains(expected), "{line}: {wrong:?}");
        }
        assert_eq!(wrong(&format!("{}device 1 more\n", *text)).line, text.lines().count() + 1);
    }
}
