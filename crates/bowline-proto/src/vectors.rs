//! The test vectors of §19, read from the specification itself.

use std::assert_eq;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;

const SPECIFICATION: &str = include_str!("../../../docs/protocol.md");

/// All of them, by name.
pub(crate) fn vectors() -> BTreeMap<String, Vec<u8>> {
    let (_, chapter) = SPECIFICATION.split_once("## 19. Test vectors").expect("the chapter");
    let mut vectors = BTreeMap::new();
    let table = chapter.lines().take_while(|line| !line.starts_with('#'));
    for line in table.filter(|line| line.starts_with('|') && line.contains('`')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let hex = cells[2].trim_matches('`').as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
        assert_eq!(vectors.insert(cells[1].to_string(), hex.chunks(2).map(byte).collect()), None);
    }
    vectors
}
