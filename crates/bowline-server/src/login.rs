//! Reading how a connection begins.

use std::collections::HashSet;
use std::mem::Discriminant;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use bowline_link::Stream;
use bowline_proto::Dialect;
use bowline_proto::native::wire::MAX_OPENING;
use bowline_proto::wire::login::{self, Login, LoginError, Opening};

use crate::opening::Input;
use crate::stats::{Counter, Counters};

/// Why a connection was refused before it was a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no login line came within the login timeout")]
    Timeout,
    #[error("it was closed before it logged in")]
    Closed,
    #[error("it made room for newer connections before it logged in")]
    Evicted,
    #[error("its first line is longer than the {} bytes of a login", login::MAX_LINE)]
    TooLong,
    #[error("it begins as the native protocol does, and goes on as something else")]
    Opening,
    #[error("it speaks another version of the native protocol: update the device, or the server")]
    Version,
    #[error("it has shown no key that is in force: it was not given one, has another one, or its key was revoked")]
    Key,
    #[error("its id has or had a key, and gets in by nothing else: provision the device with a key (`bowline key`)")]
    Keyed,
    #[error("it has no key, and may not speak the native protocol without one: give it a key (`bowline key new`)")]
    NotOpen,
    #[error(
        "it has shown its key and would not encrypt, which its id may not do: name it in security.unencrypted if \
         everybody may read it, or let the device encrypt"
    )]
    Unencrypted,
    #[error("it has no key, and this listener is for devices that have one")]
    NotSecured,
    #[error("it speaks the native protocol, which is switched off here")]
    NativeOff,
    #[error("its address asks for more handshakes than it may: raise the limit if there are many devices behind it")]
    Handshakes,
    #[error("its first record does not fit its opening, which may be somebody's recording")]
    Unconfirmed,
    #[error("the system gave no random bytes")]
    Random,
    #[error("{0}")]
    Login(LoginError),
    #[error("its id is neither expected nor allowed: add it to the configuration if it is yours")]
    UnknownId,
    #[error("it speaks dialect {0}, which is switched off here")]
    Dialect(Dialect),
    #[error("as many devices are known as may be: raise the limit, or let temporary ones expire sooner")]
    TooManyDevices,
    #[error("as many devices have links as may: raise the limit")]
    TooManyLinks,
    #[error(
        "what is stored for it is damaged: put a backup of the store in its place, or forget the device \
         (`bowline device forget`)"
    )]
    Damaged,
}

impl Refusal {
    pub(crate) fn counter(self, counters: &Counters) -> &Counter {
        match self {
            Refusal::Timeout => &counters.refused_timeout,
            Refusal::Closed => &counters.refused_closed,
            Refusal::Evicted => &counters.refused_evicted,
            Refusal::TooLong => &counters.refused_too_long,
            Refusal::Opening => &counters.refused_opening,
            Refusal::Version => &counters.refused_version,
            Refusal::Key => &counters.refused_key,
            Refusal::Keyed => &counters.refused_keyed,
            Refusal::NotOpen | Refusal::NotSecured => &counters.refused_not_open,
            Refusal::Unencrypted => &counters.refused_unencrypted,
            Refusal::Handshakes => &counters.refused_handshakes,
            Refusal::Unconfirmed => &counters.refused_unconfirmed,
            Refusal::Random => &counters.refused_no_random,
            Refusal::Login(LoginError::Http) => &counters.refused_http,
            Refusal::Login(_) => &counters.refused_malformed,
            Refusal::UnknownId => &counters.refused_unknown_id,
            Refusal::Dialect(_) | Refusal::NativeOff => &counters.refused_dialect,
            Refusal::TooManyDevices => &counters.refused_too_many_devices,
            Refusal::TooManyLinks => &counters.refused_too_many_links,
            Refusal::Damaged => &counters.refused_damaged,
        }
    }
}

/// A login as it came, and what came behind it.
#[derive(Debug)]
pub(crate) struct FirstLine {
    pub(crate) dialect: Dialect,
    pub(crate) id: Box<str>,
    /// Bytes behind the login line. They belong to the link.
    pub(crate) rest: Vec<u8>,
}

/// How a connection begins.
#[derive(Debug)]
pub(crate) enum First {
    /// A login line.
    Line(FirstLine),
    /// The first byte of the native protocol, and what came with it.
    Native(Input),
}

/// Reads the login line. Takes no more than this one buffer, whatever is sent.
pub(crate) async fn read(stream: &mut Stream) -> Result<First, Refusal> {
    let mut buffer = [0; 512];
    let mut len = 0;
    loop {
        // No more than belongs to an opening, until it is known to be none.
        let most = if len == 0 { MAX_OPENING } else { buffer.len() };
        match stream.read(&mut buffer[len..most]).await {
            Ok(0) | Err(_) => return Err(Refusal::Closed),
            Ok(count) => len += count,
        }
        if Opening::of(buffer[0]) == Opening::Native {
            return Ok(First::Native(Input::new(&buffer[..len])));
        }
        let received = &buffer[..len];
        let end = received.iter().position(|&byte| byte == b'\n');
        match end {
            Some(end) if end <= login::MAX_LINE => {
                let login = Login::parse(&received[..end]).map_err(Refusal::Login)?;
                let (dialect, id) = (login.dialect, login.id.as_str().into());
                return Ok(First::Line(FirstLine { dialect, id, rest: received[end + 1..].to_vec() }));
            }
            None if len <= login::MAX_LINE => {}
            _ => return Err(Refusal::TooLong),
        }
    }
}

/// Remembers who was refused and why, so that each is logged once.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<HashSet<Refusing>>);

/// Who was refused, why, and under which id if it had one.
type Refusing = (IpAddr, Discriminant<Refusal>, Box<str>);

impl Refused {
    const REMEMBERED: usize = 1024;

    /// Whether this is the first refusal of its kind of this peer under this id, as far as is remembered.
    pub(crate) fn is_first(&self, peer: IpAddr, refusal: Refusal, id: &str) -> bool {
        // Nothing panics while it holds the lock.
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= Self::REMEMBERED {
            peers.clear();
        }
        peers.insert((peer, std::mem::discriminant(&refusal), id.into()))
    }
}
