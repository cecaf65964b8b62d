//! The client in the memory that a small board has, as `.mpy` files.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::serves;
use crate::harness::Board;

/// `mpy-cross` beside the MicroPython of the tests, or where BOWLINE_MPY_CROSS says.
fn mpy_cross() -> Option<PathBuf> {
    let beside = || Some(Path::new(&std::env::var_os("BOWLINE_MICROPYTHON")?).with_file_name("mpy-cross"));
    let found = std::env::var_os("BOWLINE_MPY_CROSS").map(PathBuf::from).or_else(beside).filter(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have mpy-cross");
        eprintln!("skipped: there is no mpy-cross (`cargo xtask test` installs one)");
    }
    found
}

#[test]
fn the_client_with_two_apps_runs_in_40_kib() {
    let Some(mpy_cross) = mpy_cross() else { return };
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("bowline")).unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/micropython/bowline");
    for file in std::fs::read_dir(package).unwrap() {
        let file = file.unwrap().path();
        let Some(name) = file.file_name().unwrap().to_str().unwrap().strip_suffix(".py") else { continue };
        let out = folder.path().join("bowline").join(format!("{name}.mpy"));
        let done = Command::new(&mpy_cross).args(["-O3", "-o"]).args([&out, &file]).status().unwrap();
        assert!(done.success(), "{}", file.display());
    }
    let server = serves();
    let address = server.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    for dialect in ["H", "N"] {
        let arguments = [folder.path().to_str().unwrap(), host, port, dialect];
        let Some(mut board) = Board::runs(&["-X", "heapsize=40k"], "two_apps.py", &arguments) else { return };
        println!("{dialect}: {} bytes free", board.reports("free"));
        board.ends();
    }
}
