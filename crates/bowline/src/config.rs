//! The configuration file. Every field is explained in `docs/configuration.md`, which is written from here.

mod reference;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_server::{Admission, Builder, Dialects, Keys, Limits, Server};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::ServeArgs;
use crate::near::nearest;

mod api;
mod apps;
mod mqtt;
mod record;

pub(crate) use api::Api;
use apps::Apps;
pub(crate) use apps::External;

/// Ports of the two MicroPython libraries.
const PORTS: [u16; 2] = [9999, 8123];

/// The file, with defaults for what is not in it.
///
/// The comments of the fields are what `docs/configuration.md` and the schema say of them, and the ranges are
/// enforced: a field needs nothing but its declaration, its comment and its default. See the module `reference`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses to listen on. Each speaks all dialects, told apart by their first bytes.
    /// 9999 and 8123 are the default ports of the two MicroPython libraries.
    pub(crate) listen: Vec<SocketAddr>,
    /// Addresses to listen on for devices that speak plain lines (dialect P), whatever their id.
    pub(crate) listen_plain: Vec<SocketAddr>,
    /// Addresses to listen on for devices with keys only (`bowline key`). Needs no open_lan.
    pub(crate) listen_secured: Vec<SocketAddr>,
    /// Must be true before an address that the network can reach is listened on for devices without keys:
    /// they cannot prove who they are, so that everyone who can reach the port may connect under any id
    /// that has no key.
    /// `--open-lan` sets this and listens on 0.0.0.0 (both ports) unless `listen` says otherwise.
    pub(crate) open_lan: bool,
    /// Folder for the server's files: the store, the devices' keys, the lock that keeps it to one server, and the
    /// socket that `bowline send`, `tail`, `devices`, `device show`, `dead` and `key` talk to. Relative to the
    /// folder the server is started in.
    pub(crate) data: PathBuf,
    /// What happens to messages for which no other app is set up.
    /// The ident of an app is the first byte of a three-byte header (dialect H) or of the channel (dialect N).
    /// Messages that no app takes are kept as dead letters.
    pub(crate) app: App,
    pub(crate) apps: Apps,
    pub(crate) link: Link,
    pub(crate) devices: Devices,
    pub(crate) security: Security,
    pub(crate) store: StoreSection,
    pub(crate) limits: LimitsSection,
    pub(crate) api: Api,
}

/// What happens to messages for which no other app is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum App {
    /// The app with ident 0 sends them back, and those without a header; what names another ident has no app.
    Echo,
    /// All of them are printed on standard output.
    Print,
}

/// The connections of devices.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Link {
    /// The timeout the boards are configured with (TIMEOUT in their local.py), in milliseconds.
    /// An outage is declared after one and a half of it without a byte.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub(crate) timeout_ms: u64,
    /// How long a connection may take to log in, in milliseconds.
    #[schemars(range(min = 100, max = 600_000))]
    pub(crate) login_timeout_ms: u64,
    /// Pause between a board's login and the first message to it, in milliseconds; small boards need it.
    #[schemars(range(min = 0, max = 60_000))]
    pub(crate) settle_ms: u64,
    /// How many messages may go to a board at once before they go one by one.
    /// Boards keep 5 (H) or 20 (U) unread messages and drop the link at one more.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) pace_burst: u32,
    /// Time from each further message to the next, in milliseconds. 0: no limit.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub(crate) pace_ms: u64,
    /// How long a server that is asked to stop goes on sending what is queued, in milliseconds.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub(crate) drain_ms: u64,
}

/// Devices without keys. One with a key (`bowline key new ID`) gets in with that and with nothing else, on
/// dialect N, whether its id is listed here or not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Devices {
    /// Ids that are known before they connect. They never expire.
    pub(crate) expected: Vec<String>,
    /// Patterns of further ids: * stands for any text, ? for one character. [] lets only expected ones in.
    pub(crate) allow: Vec<String>,
    /// Patterns of ids that speak plain lines; on the wire their login looks like that of U.
    pub(crate) plain: Vec<String>,
    /// Dialects spoken at all; at least one.
    pub(crate) dialects: Vec<DialectName>,
    /// How long a device that is not expected is remembered after its link has ended, in seconds.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub(crate) expiry_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum DialectName {
    /// Lines with message ids and a three-byte header, which names the app.
    H,
    /// Lines with message ids.
    U,
    /// Plain lines.
    P,
    /// The native one, with keys or without.
    N,
}

/// Devices on dialect N, and their keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Security {
    /// Patterns of ids that may speak N without a key, on the addresses in listen and listen_plain. They must
    /// be expected or allowed, too. [] asks every device on N for its key.
    pub(crate) open: Vec<String>,
    /// Patterns of ids that may use their key without encryption (dialect N's keyed mode): nobody can take their
    /// place or change what they say, and everybody on the way can read it. It is for boards that cannot encrypt,
    /// such as those with MicroPython. [] lets a device with a key in with encryption only. A device that is set
    /// to encrypt does so in any case.
    pub(crate) unencrypted: Vec<String>,
    /// How many handshakes with a key an address may ask for in a second, or a network of 64 bits with IPv6,
    /// also on this machine, once `handshake_burst` is used up. Resumptions are not counted, logins without encryption are. 0: no limit.
    /// More are told to try again later. Raise it if many devices come from one address.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) handshakes_per_second: u32,
    /// How many of them at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) handshake_burst: u32,
}

/// Where sessions and queues are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    /// What an acknowledged message survives.
    pub(crate) durability: Durability,
}

/// What an acknowledged message survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Power cuts.
    #[default]
    Fsync,
    /// The end of the server, however sudden.
    Os,
    /// Nothing, and no file is written.
    Memory,
}

/// What the server holds at a time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    /// Devices known.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) devices: usize,
    /// Links.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) links: usize,
    /// Connections that have not logged in.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) logins: usize,
    /// Longest line in bytes, both ways. Boards send some hundred.
    #[schemars(range(min = 256, max = 1_048_576))]
    pub(crate) line: usize,
    /// Messages of a device that no app has handled yet. Beyond it the device is made to wait.
    #[schemars(range(min = 4, max = 1_000_000))]
    pub(crate) inbox: usize,
    /// Messages waiting for a device. Beyond it, sending waits.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) outbox: usize,
    /// Bytes in each of these two queues of a device. One message is taken whatever its size.
    #[schemars(range(min = 0, max = 1_073_741_824))]
    pub(crate) queue_bytes: usize,
    /// Best-effort messages waiting for a device's link. Beyond it, sending them fails.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) best_effort: usize,
    /// Messages nobody could handle that are kept for each device.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) dead_letters: usize,
    /// Messages a second taken from one link; a faster device is made to wait. 0: no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(crate) messages_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: PORTS.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).to_vec(),
            listen_plain: Vec::new(),
            listen_secured: Vec::new(),
            open_lan: false,
            data: PathBuf::from("bowline-data"),
            app: App::Echo,
            apps: Apps::default(),
            api: Api::default(),
            link: Link::default(),
            devices: Devices::default(),
            security: Security::default(),
            limits: LimitsSection::default(),
            store: StoreSection::default(),
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Link { timeout_ms: 3000, login_timeout_ms: 5000, settle_ms: 200, pace_burst: 4, pace_ms: 50, drain_ms: 5000 }
    }
}

impl Default for Devices {
    fn default() -> Self {
        Devices {
            expected: Vec::new(),
            allow: vec!["*".to_owned()],
            plain: Vec::new(),
            dialects: vec![DialectName::H, DialectName::U, DialectName::P, DialectName::N],
            expiry_s: 3600,
        }
    }
}

impl Default for Security {
    fn default() -> Self {
        Security { open: vec!["*".to_owned()], unencrypted: Vec::new(), handshakes_per_second: 5, handshake_burst: 20 }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        LimitsSection {
            devices: 20_000,
            links: 20_000,
            logins: 1024,
            line: limits.line,
            inbox: limits.inbox,
            outbox: limits.outbox,
            queue_bytes: limits.queue_bytes,
            best_effort: limits.best_effort,
            dead_letters: limits.dead_letters,
            messages_per_second: limits.messages_per_second.unwrap_or(0),
        }
    }
}

impl Config {
    /// What the command line and the file it names say together. Paths in the file are relative to
    /// the current folder, as they are on the command line.
    pub(crate) fn load(args: &ServeArgs) -> anyhow::Result<Self> {
        let mut config = match &args.config {
            Some(path) => Self::read(path)?,
            None => Config::default(),
        };
        let listens_by_default = config.listen == Config::default().listen;
        config.open_lan |= args.open_lan;
        if !args.listen.is_empty() {
            config.listen.clone_from(&args.listen);
        } else if args.open_lan && listens_by_default {
            config.listen = PORTS.map(|port| SocketAddr::from(([0, 0, 0, 0], port))).to_vec();
        }
        if let Some(data) = &args.data {
            config.data.clone_from(data);
        }
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the configuration {} is not right", path.display()))
    }

    /// What a text says, checked as far as no other file is needed for that.
    pub(crate) fn checked(text: &str) -> anyhow::Result<Self> {
        let config = Self::parse(text)?;
        config.check()?;
        Ok(config)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).map_err(|error| match nearest_field(error.message()) {
            Some(field) => anyhow::anyhow!("{error}did you mean `{field}`?"),
            None => anyhow::anyhow!("{}", error.to_string().trim_end()),
        })
    }

    /// What the types cannot say.
    fn check(&self) -> anyhow::Result<()> {
        let abroad = |address: &&SocketAddr| !address.ip().is_loopback();
        if let Some(address) = self.listen.iter().chain(&self.listen_plain).find(abroad)
            && !self.open_lan
        {
            bail!(
                "{address} can be reached from the network, and devices without a key cannot prove who they are.\n\
                 If everyone who can reach it may connect, say so: --open-lan, or open_lan = true in the configuration.\n\
                 An address for devices with keys only goes into listen_secured"
            );
        }
        if self.addresses().next().is_none() {
            bail!("there is no address to listen on: give `listen` at least one, for example [\"127.0.0.1:9999\"]");
        }
        reference::check_ranges(self)?;
        self.apps.check()?;
        self.api.check()?;
        if self.devices.dialects.is_empty() {
            bail!("devices.dialects is empty: expected at least one of \"H\", \"U\", \"P\", \"N\"");
        }
        if !self.listen_secured.is_empty() && !self.speaks(DialectName::N) {
            bail!("listen_secured is for the native dialect: add \"N\" to devices.dialects, or leave it out");
        }
        Ok(())
    }

    /// What depends on the keys: whether anybody may connect at all.
    pub(crate) fn check_keys(&self, keys: &Keys) -> anyhow::Result<()> {
        let keyed = self.speaks(DialectName::N) && !keys.is_empty();
        if self.devices.allow.is_empty() && self.devices.expected.is_empty() && !keyed {
            bail!(
                "no device may connect: give devices.expected some ids, devices.allow patterns such as \"*\", \
                 or devices keys (`bowline key new`)"
            );
        }
        Ok(())
    }

    /// All addresses to listen on, in the order in which the server has them.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.iter().chain(&self.listen_plain).chain(&self.listen_secured).copied()
    }

    pub(crate) fn speaks(&self, dialect: DialectName) -> bool {
        self.devices.dialects.contains(&dialect)
    }

    /// Opens the store; `None` if nothing is to be kept. Blocks.
    pub(crate) fn open_store(&self) -> Result<Option<bowline_store::Store>, bowline_store::OpenError> {
        use bowline_store::{Durability as Depth, Limits, Quota, Store};
        let depth = match self.store.durability {
            Durability::Fsync => Depth::Fsync,
            Durability::Os => Depth::Os,
            Durability::Memory => return Ok(None),
        };
        let limits = &self.limits;
        // Queues are bounded in memory, and each device has one transaction on its way. What is in the
        // store when these limits are lowered has to fit all the same.
        let quota = Quota { count: i64::MAX as u64, bytes: i64::MAX as u64 };
        let dead_letters = Quota { count: limits.dead_letters as u64, bytes: 1 << 20 };
        let store =
            Limits { inbox: quota, outbox: quota, dead_letters, queue: limits.devices + 1024, ..Limits::default() };
        Store::open(&self.data, depth, store).map(Some)
    }

    /// The server these settings describe.
    pub(crate) fn builder(&self) -> Builder {
        let limits = &self.limits;
        let mut builder = Server::builder()
            .timeout(Duration::from_millis(self.link.timeout_ms))
            .login_timeout(Duration::from_millis(self.link.login_timeout_ms))
            .settle(Duration::from_millis(self.link.settle_ms))
            .pace(self.link.pace_burst, Duration::from_millis(self.link.pace_ms))
            .expiry(Duration::from_secs(self.devices.expiry_s))
            .max_devices(limits.devices)
            .max_links(limits.links)
            .max_logins(limits.logins)
            .handshakes(self.security.handshakes_per_second, self.security.handshake_burst)
            .limits(Limits {
                inbox: limits.inbox,
                outbox: limits.outbox,
                queue_bytes: limits.queue_bytes,
                best_effort: limits.best_effort,
                dead_letters: limits.dead_letters,
                messages_per_second: (limits.messages_per_second > 0).then_some(limits.messages_per_second),
                line: limits.line,
            })
            .admission(Admission {
                expected: self.devices.expected.clone(),
                allow: self.devices.allow.clone(),
                plain: self.devices.plain.clone(),
                open: self.security.open.clone(),
                unencrypted: self.security.unencrypted.clone(),
                dialects: Dialects {
                    headers: self.speaks(DialectName::H),
                    upstream: self.speaks(DialectName::U),
                    plain: self.speaks(DialectName::P),
                    native: self.speaks(DialectName::N),
                },
            });
        for &address in &self.listen {
            builder = builder.listen(address);
        }
        for &address in &self.listen_plain {
            builder = builder.listen_plain(address);
        }
        for &address in &self.listen_secured {
            builder = builder.listen_secured(address);
        }
        builder
    }
}

/// The known field most like the unknown one that serde complains about, here or in another section.
fn nearest_field(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    if let Some(section) = reference::section_of(unknown) {
        return Some(format!("{unknown}` in the section `[{section}]"));
    }
    nearest(unknown, names).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_documents_have_the_defaults() {
        let page = include_str!("../../../docs/configuration.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(Config::parse(example).unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_nearest_name() {
        let error = Config::parse("[link]\ntimeout = 3\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `timeout`"), "{error}");
        assert!(error.contains("did you mean `timeout_ms`?"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_field_in_the_wrong_section_is_sent_to_the_right_one() {
        let error = Config::parse("timeout_ms = 3000\n").unwrap_err().to_string();
        assert!(error.contains("did you mean `timeout_ms` in the section `[link]`?"), "{error}");
        // Also where the section need not be there.
        let error = Config::parse("[apps]\nhops = 2\n").unwrap_err().to_string();
        assert!(error.contains("did you mean `hops` in the section `[apps.relay]`?"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_its_line() {
        let error = Config::parse("app = \"echo\"\nlisten = [\"localhost\"]\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn the_network_is_let_in_only_when_asked_for() {
        let lan = Config { listen: vec!["0.0.0.0:9999".parse().unwrap()], ..Config::default() };
        assert!(lan.check().unwrap_err().to_string().contains("--open-lan"));
        assert!(Config { open_lan: true, ..lan }.check().is_ok());
        assert!(Config::parse("listen_secured = [\"0.0.0.0:9998\"]").unwrap().check().is_ok());
    }

    #[test]
    fn somebody_may_connect() {
        let keys = Keys::default();
        let none = Config::parse("[devices]\nallow = []").unwrap();
        assert!(none.check_keys(&keys).is_err() && Config::default().check_keys(&keys).is_ok());
        keys.issue("kitchen", bowline_server::Date::from_unix(0)).unwrap();
        assert!(none.check_keys(&keys).is_ok());
        let legacy = Config::parse("[devices]\nallow = []\ndialects = [\"H\"]").unwrap();
        assert!(legacy.check_keys(&keys).is_err());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let wrong = [
            "listen = []",
            "[link]\ntimeout_ms = 5",
            "[limits]\nline = 10",
            "[limits]\ninbox = 0",
            "[devices]\ndialects = []",
            "listen_secured = [\"[::]:9999\"]\n[devices]\ndialects = [\"H\"]",
            "[security]\nhandshake_burst = 0",
        ];
        for text in wrong {
            assert!(Config::parse(text).unwrap().check().is_err(), "{text}");
        }
    }
}
