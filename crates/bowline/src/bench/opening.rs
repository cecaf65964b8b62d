//! How a native link begins (§8.2, §15).

use std::io;

use bowline_link::Outside;
use bowline_proto::DeviceId;
use bowline_proto::native::wire::{Answer, Mode, Opening};
use bowline_proto::time::Instant;
use bowline_secure::{
    AnswerError, Carrier, Ephemeral, Handshake, Key, KeyId, MAX_ANSWER, MAX_OPENING, Resumed, Resumption, Ticket,
    Transport, code,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Why there is no link.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server says no, and will go on saying it.
    Final(String),
    /// The server says: not now.
    Later,
    /// Nobody listens there.
    Nobody,
    /// Something else.
    Failed(String),
}

/// How a link began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Began {
    /// By a login, or an opening that is no resumption.
    Fully,
    /// With a ticket.
    Resumed,
}

/// Exchanges the opening of a device without a key.
pub(super) async fn open(stream: &mut TcpStream, id: DeviceId<'_>) -> Result<(), Refusal> {
    let mut opening = [0; MAX_OPENING];
    let len = Opening { id, mode: Mode::Open, handshake: &[] }
        .emit(&mut opening)
        .ok_or_else(|| Refusal::Final(format!("the id {id} is too long")))?;
    stream.write_all(&opening[..len]).await?;
    let mut input = Input::new(stream);
    loop {
        match Answer::parse(input.get()) {
            Ok(None) => input.fill().await?,
            Ok(Some((answer, len))) => {
                return match answer.verdict.checked_sub(0x80) {
                    Some(code) => Err(AnswerError::Refused { code, version: answer.version }.into()),
                    None => input.ends_at(len),
                };
            }
            Err(_) => return Err(AnswerError::Malformed.into()),
        }
    }
}

/// Exchanges the opening of a device with a key: with its ticket, if there is one that counts.
pub(super) async fn secure(
    stream: &mut TcpStream,
    id: DeviceId<'_>,
    key_id: KeyId,
    key: &Key,
    ticket: &mut Option<Ticket>,
    now: Instant,
) -> Result<(Transport, Began), Refusal> {
    let outside = Outside::default();
    let mut opening = [0; MAX_OPENING];
    let nonce = outside.bytes::<16>()?;
    if let Some(usable) = ticket
        && let Some((mut resumption, len)) =
            Resumption::start(usable, id, key_id, &nonce, now, Carrier::Lossless, &mut opening)
                .map_err(|error| Refusal::Final(error.to_string()))?
    {
        stream.write_all(&opening[..len]).await?;
        let mut input = Input::new(stream);
        let resumed = loop {
            match resumption.finish(input.get())? {
                None => input.fill().await?,
                Some((resumed, len)) => {
                    input.ends_at(len)?;
                    break resumed;
                }
            }
        };
        match resumed {
            Resumed::Transport(transport) => return Ok((transport, Began::Resumed)),
            Resumed::FullHandshake => *ticket = None,
        }
    }
    let ephemeral = Ephemeral::new(&outside.bytes::<32>()?);
    let (mut handshake, len) = Handshake::start(id, key_id, key, ephemeral, Carrier::Lossless, &mut opening)
        .map_err(|error| Refusal::Final(error.to_string()))?;
    stream.write_all(&opening[..len]).await?;
    let mut input = Input::new(stream);
    loop {
        match handshake.finish(input.get())? {
            None => input.fill().await?,
            Some((transport, len)) => {
                input.ends_at(len)?;
                return Ok((transport, Began::Fully));
            }
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        // EMFILE, ENFILE.
        if let Some(23 | 24) = error.raw_os_error() {
            return Refusal::Final(
                "no more open files: use fewer devices, or raise the limit (`ulimit -n`)".to_owned(),
            );
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Refusal::Nobody,
            io::ErrorKind::AddrNotAvailable => Refusal::Final(
                "no address or port to connect from: name addresses of this machine with --source".to_owned(),
            ),
            _ => Refusal::Failed(error.to_string()),
        }
    }
}

impl From<AnswerError> for Refusal {
    fn from(error: AnswerError) -> Self {
        let AnswerError::Refused { code, .. } = error else { return Refusal::Failed(error.to_string()) };
        Refusal::Final(match code {
            code::TRY_AGAIN => return Refusal::Later,
            code::NOT_ALLOWED => "the server does not let this id in like this: it may have a key (--keys), or not be \
                                  allowed there; the server's log says why"
                .to_owned(),
            code::KEY => {
                "the server does not know this key: make keys with `bowline bench keys` in its data folder".to_owned()
            }
            _ => error.to_string(),
        })
    }
}

/// Reads the answer. The server says nothing behind it before it has heard more.
struct Input<'a> {
    stream: &'a mut TcpStream,
    bytes: [u8; MAX_ANSWER],
    len: usize,
}

impl<'a> Input<'a> {
    fn new(stream: &'a mut TcpStream) -> Self {
        Input { stream, bytes: [0; MAX_ANSWER], len: 0 }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.bytes[self.len..]).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection at the opening")),
            count => {
                self.len += count;
                Ok(())
            }
        }
    }

    fn ends_at(&self, len: usize) -> Result<(), Refusal> {
        if len == self.len { Ok(()) } else { Err(Refusal::Failed("bytes behind the answer to the opening".to_owned())) }
    }
}
