//! The configuration file. Every field is explained in `docs/configuration.md`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_server::{Admission, Builder, Dialects, Limits, Server};
use serde::Deserialize;

use crate::cli::ServeArgs;

/// Ports of the two MicroPython libraries.
const PORTS: [u16; 2] = [9999, 8123];

/// The file, with defaults for what is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Addresses to listen on. All dialects on each.
    pub(crate) listen: Vec<SocketAddr>,
    /// Addresses to listen on for devices that speak plain lines.
    pub(crate) listen_plain: Vec<SocketAddr>,
    /// Other addresses than those of this machine may be listened on, without proof of who connects.
    pub(crate) open_lan: bool,
    /// Folder for the server's files.
    pub(crate) data: PathBuf,
    /// What happens to messages.
    pub(crate) app: App,
    pub(crate) link: Link,
    pub(crate) devices: Devices,
    pub(crate) limits: LimitsSection,
}

/// What happens to messages from devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum App {
    /// Goes back to the device.
    Echo,
    /// Is printed to standard output.
    Print,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Link {
    pub(crate) timeout_ms: u64,
    pub(crate) login_timeout_ms: u64,
    pub(crate) settle_ms: u64,
    pub(crate) pace_burst: u32,
    pub(crate) pace_ms: u64,
    pub(crate) drain_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Devices {
    pub(crate) expected: Vec<String>,
    pub(crate) allow: Vec<String>,
    pub(crate) plain: Vec<String>,
    pub(crate) dialects: Vec<DialectName>,
    pub(crate) expiry_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum DialectName {
    H,
    U,
    P,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsSection {
    pub(crate) devices: usize,
    pub(crate) links: usize,
    pub(crate) logins: usize,
    pub(crate) line: usize,
    pub(crate) inbox: usize,
    pub(crate) outbox: usize,
    pub(crate) best_effort: usize,
    pub(crate) dead_letters: usize,
    pub(crate) messages_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: PORTS.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).to_vec(),
            listen_plain: Vec::new(),
            open_lan: false,
            data: PathBuf::from("bowline-data"),
            app: App::Echo,
            link: Link::default(),
            devices: Devices::default(),
            limits: LimitsSection::default(),
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
            dialects: vec![DialectName::H, DialectName::U, DialectName::P],
            expiry_s: 3600,
        }
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
                "{address} can be reached from the network, and boards that speak H, U or P cannot prove who they are.\n\
                 If everyone who can reach it may connect, say so: --open-lan, or open_lan = true in the configuration"
            );
        }
        if self.listen.is_empty() && self.listen_plain.is_empty() {
            bail!("there is no address to listen on: give `listen` at least one, for example [\"127.0.0.1:9999\"]");
        }
        if !(100..=3_600_000).contains(&self.link.timeout_ms) {
            bail!("link.timeout_ms = {}: expected 100 to 3600000, the boards' own timeout", self.link.timeout_ms);
        }
        if !(100..=600_000).contains(&self.link.login_timeout_ms) {
            bail!("link.login_timeout_ms = {}: expected 100 to 600000", self.link.login_timeout_ms);
        }
        if !(256..=1024 * 1024).contains(&self.limits.line) {
            bail!(
                "limits.line = {}: expected 256 to 1048576 bytes, boards send some hundred in a line",
                self.limits.line
            );
        }
        let queues = [
            ("inbox", self.limits.inbox, 4),
            ("outbox", self.limits.outbox, 1),
            ("best_effort", self.limits.best_effort, 1),
            ("dead_letters", self.limits.dead_letters, 1),
            ("devices", self.limits.devices, 1),
            ("links", self.limits.links, 1),
            ("logins", self.limits.logins, 1),
        ];
        if let Some((name, value, least)) =
            queues.into_iter().find(|(_, value, least)| !(*least..=1_000_000).contains(value))
        {
            bail!("limits.{name} = {value}: expected {least} to 1000000");
        }
        if self.devices.dialects.is_empty() {
            bail!("devices.dialects is empty: expected at least one of \"H\", \"U\", \"P\"");
        }
        if self.devices.allow.is_empty() && self.devices.expected.is_empty() {
            bail!("no device may connect: give devices.expected some ids, or devices.allow patterns such as \"*\"");
        }
        Ok(())
    }

    /// The server these settings describe.
    pub(crate) fn builder(&self) -> Builder {
        let speaks = |dialect| self.devices.dialects.contains(&dialect);
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
            .limits(Limits {
                inbox: limits.inbox,
                outbox: limits.outbox,
                best_effort: limits.best_effort,
                dead_letters: limits.dead_letters,
                messages_per_second: (limits.messages_per_second > 0).then_some(limits.messages_per_second),
                line: limits.line,
            })
            .admission(Admission {
                expected: self.devices.expected.clone(),
                allow: self.devices.allow.clone(),
                plain: self.devices.plain.clone(),
                dialects: Dialects {
                    headers: speaks(DialectName::H),
                    upstream: speaks(DialectName::U),
                    plain: speaks(DialectName::P),
                },
            });
        for &address in &self.listen {
            builder = builder.listen(address);
        }
        for &address in &self.listen_plain {
            builder = builder.listen_plain(address);
        }
        builder
    }
}

/// The known field most like the unknown one that serde complains about, here or in another section.
fn nearest_field(message: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    if let Some(section) = SECTIONS.iter().find(|(_, fields)| fields.contains(&unknown)) {
        return Some(format!("{unknown}` in the section `[{}]", section.0));
    }
    names
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known.to_owned())
}

/// Which fields are in which section, for those that are looked for in the wrong one.
const SECTIONS: [(&str, &[&str]); 3] = [
    ("link", &["timeout_ms", "login_timeout_ms", "settle_ms", "pace_burst", "pace_ms", "drain_ms"]),
    ("devices", &["expected", "allow", "plain", "dialects", "expiry_s"]),
    ("limits", &["links", "logins", "line", "inbox", "outbox", "best_effort", "dead_letters", "messages_per_second"]),
];

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
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let wrong = [
            "listen = []",
            "[link]\ntimeout_ms = 5",
            "[limits]\nline = 10",
            "[limits]\ninbox = 0",
            "[devices]\ndialects = []",
            "[devices]\nallow = []",
        ];
        for text in wrong {
            assert!(Config::parse(text).unwrap().check().is_err(), "{text}");
        }
    }
}
