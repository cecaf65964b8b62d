//! What the board is told at its start: words `name=value` behind the emulator's `arg=`.

use core::net::SocketAddr;

use embassy_time::Duration;

/// The settings, with defaults for all but the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `server=10.0.2.2:9999`: where the server is. This address is the host's loopback in QEMU's user network.
    pub server: SocketAddr,
    /// `app=0`: the app that the messages are for. 0 is the one that echoes.
    pub app: u8,
    /// `timeout=3000`: silence after which a link is given up, in milliseconds.
    pub timeout: Duration,
    /// `every=1000`: pause between two messages, in milliseconds.
    pub every: Duration,
    /// `from=1`: the number of the first message.
    pub from: u64,
    /// `deep=1`: the stack is used up at once, to see what comes of it.
    pub deep: bool,
}

impl Settings {
    /// Reads the words. What is wrong is returned.
    pub fn parse(words: &str) -> Result<Self, &str> {
        let mut server = None;
        let second = Duration::from_secs(1);
        let unknown = SocketAddr::from(([0; 4], 0));
        let mut settings =
            Settings { server: unknown, app: 0, timeout: second * 3, every: second, from: 1, deep: false };
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or(word)?;
            let number = || value.parse::<u64>().map_err(|_| word);
            match name {
                "server" => server = Some(value.parse().map_err(|_| word)?),
                "app" => settings.app = value.parse().map_err(|_| word)?,
                "timeout" => settings.timeout = Duration::from_millis(number()?),
                "every" => settings.every = Duration::from_millis(number()?),
                "from" => settings.from = number()?,
                "deep" => settings.deep = number()? > 0,
                _ => return Err(word),
            }
        }
        let server = server.ok_or("server=… is missing")?;
        Ok(Settings { server, ..settings })
    }
}
