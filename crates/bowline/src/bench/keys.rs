//! Keys for many devices.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use bowline_secure::{Key, KeyId, Provision};
use bowline_server::Keys;

use crate::cli::BenchKeysArgs;
use crate::key;
use crate::units::count;

/// `bowline bench keys`.
pub(super) async fn make(args: BenchKeysArgs) -> anyhow::Result<ExitCode> {
    let keys = Keys::open(&args.data)?;
    let out = &args.out;
    // First of all, so that no keys are made that go nowhere.
    let hint = || format!("cannot make the file {}: --out names one that is not there yet", out.display());
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(out).with_context(hint)?;
    let ids: Vec<_> = (0..args.count).map(|number| id(&args.prefix, number)).collect();
    let issued = match keys.issue_all(ids.iter().map(String::as_str), key::today()) {
        Ok(issued) => issued,
        Err(error) => {
            // Left behind, it says nothing.
            let _ = fs::remove_file(out);
            return Err(key::advise(error, &keys));
        }
    };
    for issued in &issued {
        file.write_all(issued.line().as_bytes()).and_then(|()| file.write_all(b"\n")).with_context(|| {
            format!("the keys were made, but not written to {}: remove them, and make others", out.display())
        })?;
    }
    eprintln!(
        "Made {} in {}; the lines for --keys are in {}.",
        count(issued.len() as u64, "key"),
        args.data.display(),
        out.display()
    );
    key::tell(&args.data).await.report("the keys count")?;
    Ok(ExitCode::SUCCESS)
}

/// The id of this device.
pub(super) fn id(prefix: &str, number: u32) -> String {
    format!("{prefix}-{number}")
}

/// One device's key.
pub(super) struct DeviceKey {
    pub(super) id: String,
    pub(super) key_id: KeyId,
    pub(super) key: Key,
}

/// The first `devices` keys of a file.
pub(super) fn read(path: &Path, devices: u32) -> anyhow::Result<Vec<DeviceKey>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("--keys: cannot read {}; `bowline bench keys` makes such a file", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let keys = lines
        .take(devices as usize)
        .map(|(number, line)| {
            let wrong = || format!("--keys: line {} of {}", number + 1, path.display());
            let Provision { id, key_id, key } =
                Provision::parse(line).map_err(anyhow::Error::from).with_context(wrong)?;
            Ok(DeviceKey { id: id.to_string(), key_id, key })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    if keys.len() < devices as usize {
        bail!(
            "--keys: {} has {} and {devices} devices are to connect",
            path.display(),
            count(keys.len() as u64, "key")
        );
    }
    let mut ids: Vec<_> = keys.iter().map(|key| &key.id).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("--keys: {} has two keys of {:?}; each device has one", path.display(), twice[0]);
    }
    Ok(keys)
}
