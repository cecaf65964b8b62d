//! Says where the linker finds the map of the board's memory, and where the program finds what the WiFi chip is loaded with.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The folder with the files below.
const FOLDER_VAR: &str = "CYW43_FIRMWARE";
const FILES: [&str; 3] = ["43439A0.bin", "43439A0_clm.bin", "nvram_rp2040.bin"];

fn main() {
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    for argument in ["--nmagic", "-Tlink.x", "-Tlink-rp.x"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=memory.x");

    println!("cargo::rerun-if-env-changed={FOLDER_VAR}");
    let folder = env::var_os(FOLDER_VAR).map(PathBuf::from);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    if folder.is_none() {
        println!("cargo::warning={FOLDER_VAR} is not set: this image links and cannot join a WiFi, see README.md");
    }
    for file in FILES {
        let bytes = folder.as_deref().map_or_else(Vec::new, |folder| read(&folder.join(file)));
        fs::write(out.join(file), bytes).expect("the folder for what is built can be written");
    }
}

fn read(path: &Path) -> Vec<u8> {
    println!("cargo::rerun-if-changed={}", path.display());
    match fs::read(path) {
        Ok(bytes) if !bytes.is_empty() => bytes,
        Ok(_) => panic!("{} is empty: load it again, see README.md", path.display()),
        Err(error) => panic!("{}: {error}. {FOLDER_VAR} is the folder with {FILES:?}, see README.md", path.display()),
    }
}
