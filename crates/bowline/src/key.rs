//! `bowline key`: who has which key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use bowline_server::{Date, DeviceKeys, Issued, KeyId, KeyState, Keys, KeysError};
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;

use crate::cli::{KeyArgs, KeyCommand, KeyFolder, NewKeyArgs, RemoveKeyArgs, RevokeKeyArgs};
use crate::control::{Client, KeysReloaded};
use crate::near::nearest;
use crate::talk::shown;
use crate::units::count;

pub(crate) async fn run(args: KeyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        KeyCommand::New(args) => make(args, Keys::issue).await?,
        KeyCommand::Rotate(args) => make(args, Keys::rotate).await?,
        KeyCommand::Revoke(args) => revoke(args).await?,
        KeyCommand::Remove(args) => remove(args).await?,
        KeyCommand::List(folder) => list(&folder)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `new` and `rotate`.
async fn make(args: NewKeyArgs, how: fn(&Keys, &str, Date) -> Result<Issued, KeysError>) -> anyhow::Result<()> {
    let data = &args.keys.data;
    let keys = Keys::open(data)?;
    // First of all, so that no key is made that goes nowhere.
    let out = args.out.as_deref().map(Out::create).transpose()?;
    let today = today();
    let issued = how(&keys, &args.id, today).map_err(|error| advise(error, &keys))?;
    let line = issued.line();
    let saved = out.map(|out| out.save(&line)).transpose()?;
    let told = tell(data).await;
    if args.keys.json {
        let mut answer = json!({
            "id": issued.id, "key_id": issued.key_id.get(), "created": today.to_string(), "server": told.name(),
        });
        match &saved {
            Some(path) => answer["out"] = path.display().to_string().into(),
            None => answer["line"] = line.as_str().into(),
        }
        println!("{answer:#}");
    } else {
        if saved.is_none() {
            println!("{}", shown(&line));
        }
        if args.qr || saved.is_none() && io::stdout().is_terminal() {
            println!("{}", qr(line.as_bytes())?);
        }
        explain(&issued, &keys, data, saved.as_deref());
    }
    told.report(&format!("key {} counts", issued.key_id))
}

/// What to do with the line, and what is different from now on.
fn explain(issued: &Issued, keys: &Keys, data: &Path, saved: Option<&Path>) {
    let Issued { id, key_id, .. } = issued;
    let line = match saved {
        Some(path) => format!("the line in {}", path.display()),
        None => "the line above".to_owned(),
    };
    eprintln!("Made key {key_id} for {id:?} in {}.", data.display());
    eprintln!(
        "Give {line} to the device as its key, and to nobody else: whoever has it is {id:?}. It is not shown again."
    );
    let old = keys.list().into_iter().find(|device| device.id == *id).and_then(|device| match *device.keys {
        [old, _] => Some(old.key_id),
        _ => None,
    });
    match old {
        Some(old) => eprintln!("Key {old} stays in force until the device has shown key {key_id}."),
        None => eprintln!("{id:?} gets in with this key only now: dialects without keys are closed to it."),
    }
}

async fn revoke(args: RevokeKeyArgs) -> anyhow::Result<()> {
    let keys = Keys::open(&args.keys.data)?;
    let which = args.key_id.and_then(KeyId::new);
    let revoked = keys.revoke(&args.id, which).map_err(|error| advise(error, &keys))?;
    let told = tell(&args.keys.data).await;
    let numbers: Vec<_> = revoked.iter().map(|key_id| key_id.get()).collect();
    if args.keys.json {
        println!("{:#}", json!({ "id": args.id, "revoked": numbers, "server": told.name() }));
    } else {
        let numbers = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        println!("Revoked key {numbers} of {:?}.", args.id);
        if keys.list().iter().any(|device| device.id == args.id && device.keys.is_empty()) {
            eprintln!(
                "{:?} stays closed to everybody: `bowline key new` gives it another key, `bowline key remove` opens the id.",
                args.id
            );
        }
    }
    told.report("links made with it have ended, and no new ones are let in")
}

async fn remove(args: RemoveKeyArgs) -> anyhow::Result<()> {
    let keys = Keys::open(&args.keys.data)?;
    keys.remove(&args.id).map_err(|error| advise(error, &keys))?;
    let told = tell(&args.keys.data).await;
    if args.keys.json {
        println!("{:#}", json!({ "id": args.id, "removed": true, "server": told.name() }));
    } else {
        println!("Removed {:?}.", args.id);
        eprintln!("Where the server is open, anybody may connect under this id now.");
    }
    told.report("links made with its keys have ended")
}

fn list(folder: &KeyFolder) -> anyhow::Result<()> {
    let devices = Keys::open(&folder.data)?.list();
    if folder.json {
        let key = |key: &bowline_server::KeyInfo| json!({ "key_id": key.key_id.get(), "created": key.created.to_string(), "state": state(key.state) });
        let device =
            |device: &DeviceKeys| json!({ "id": device.id, "keys": device.keys.iter().map(key).collect::<Vec<_>>() });
        println!("{:#}", json!(devices.iter().map(device).collect::<Vec<_>>()));
        return Ok(());
    }
    if devices.is_empty() {
        println!("No device has a key in {}. `bowline key new ID` makes one.", folder.data.display());
        return Ok(());
    }
    let width = devices.iter().map(|device| device.id.chars().count()).max().unwrap_or(0).max(6);
    println!("{:width$}  {:>3}  {:10}  state", "device", "key", "created");
    for device in &devices {
        let id = shown(&device.id);
        if device.keys.is_empty() {
            println!("{id:width$}  {:>3}  {:10}  revoked", "-", "-");
        }
        for key in &device.keys {
            let (number, created) = (key.key_id.get(), key.created.to_string());
            println!("{id:width$}  {number:>3}  {created:10}  {}", describe(key.state));
        }
    }
    Ok(())
}

/// For scripts.
fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Outgoing => "outgoing",
        KeyState::Incoming => "incoming",
        _ => "live",
    }
}

/// For people.
fn describe(state: KeyState) -> &'static str {
    match state {
        KeyState::Outgoing => "live, until the device has shown the next one",
        KeyState::Incoming => "live, not shown yet",
        _ => "live",
    }
}

/// What the running server made of a change.
pub(crate) enum Told {
    Server(KeysReloaded),
    NoServer,
    Failed(anyhow::Error),
}

/// Has the running server, if there is one, read the keys again.
pub(crate) async fn tell(data: &Path) -> Told {
    let asked = async {
        let Some(mut server) = Client::find(data).await? else { return Ok(Told::NoServer) };
        Ok(Told::Server(server.post("/v1/keys/reload", &()).await?))
    };
    asked.await.unwrap_or_else(Told::Failed)
}

impl Told {
    /// For scripts.
    fn name(&self) -> &'static str {
        match self {
            Told::Server(_) => "told",
            Told::NoServer => "not running",
            Told::Failed(_) => "not told",
        }
    }

    /// Says what the running server does, or why it does not.
    pub(crate) fn report(self, effect: &str) -> anyhow::Result<()> {
        match self {
            Told::Server(KeysReloaded { ids }) => {
                eprintln!("The running server knows ({} with keys): {effect}.", count(ids as u64, "id"));
                Ok(())
            }
            Told::NoServer => {
                eprintln!("No server runs with this data folder; the next one will know.");
                Ok(())
            }
            Told::Failed(error) => {
                Err(error.context("the change is stored, but the running server does not know of it: restart it"))
            }
        }
    }
}

/// A file for a line, made before there is one.
struct Out {
    path: PathBuf,
    file: File,
    saved: bool,
}

impl Out {
    fn create(path: &Path) -> anyhow::Result<Self> {
        match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
            Ok(file) => Ok(Out { path: path.to_owned(), file, saved: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("{} is there already: choose another --out, or remove it first", path.display())
            }
            Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
    }

    fn save(mut self, line: &str) -> anyhow::Result<PathBuf> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.and_then(|()| self.file.sync_all()).with_context(|| {
            format!("the key was made, but not written to {}: revoke it, and make another", self.path.display())
        })?;
        self.saved = true;
        Ok(std::mem::take(&mut self.path))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if !self.saved {
            // Left behind, it says nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A QR code in half blocks, two modules a character. On a terminal black on white, whatever its colours
/// are: many cameras cannot read the inverse.
fn qr(line: &[u8]) -> anyhow::Result<String> {
    let code = QrCode::with_error_correction_level(line, EcLevel::M).context("the line does not fit a QR code")?;
    let image = code.render::<Dense1x2>().build();
    if !io::stdout().is_terminal() {
        return Ok(image);
    }
    Ok(image.lines().map(|line| format!("\x1b[38;5;16;48;5;231m{line}\x1b[0m\n")).collect())
}

/// Says what to do about an error.
pub(crate) fn advise(error: KeysError, keys: &Keys) -> anyhow::Error {
    let advice = match &error {
        KeysError::Unknown { id } => {
            let known = keys.list();
            match (nearest(id, known.iter().map(|device| &*device.id)), known.is_empty()) {
                (Some(nearest), _) => format!("did you mean {nearest:?}?"),
                (None, true) => "no device has one: `bowline key new` makes the first".to_owned(),
                (None, false) => "see `bowline key list`".to_owned(),
            }
        }
        KeysError::HasKey { .. } => "`bowline key rotate`".to_owned(),
        KeysError::Revoked { .. } => "`bowline key new`, or `bowline key remove`".to_owned(),
        KeysError::Rotating { new, .. } => format!("`bowline key revoke --key-id {new}`"),
        _ => return error.into(),
    };
    anyhow!("{error}: {advice}")
}

pub(crate) fn today() -> Date {
    // Before 1970 it is 1970: the date is only for people.
    Date::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
