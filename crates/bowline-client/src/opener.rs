//! How a native link begins, on the device (§8.2, §15).

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_link::{Clock, Native, Outside, Seal, Stream};
use bowline_proto::DeviceId;
use bowline_proto::native::Config;
use bowline_proto::native::wire::{Answer, Mode, Opening};
use bowline_secure::{
    AnswerError, Carrier, Ephemeral, Handshake, Key, KeyId, Keyed, MAX_ANSWER, MAX_OPENING, Resumed, Resumption,
    StartError, Ticket, Transport, code,
};

/// Begins native links.
pub(crate) struct Opener {
    key: Option<(KeyId, Key)>,
    /// With a key: whether links are encrypted, or keyed (§15.6). Nothing that comes over the wire changes it.
    encrypts: bool,
    config: Config,
    outside: Outside,
    /// Of an earlier link, for the next one.
    ticket: Arc<Mutex<Option<Ticket>>>,
}

impl Opener {
    pub(crate) fn new(key: Option<(KeyId, Key)>, encrypts: bool, config: Config, outside: Outside) -> Self {
        Opener { key, encrypts, config, outside, ticket: Arc::default() }
    }

    /// Exchanges the opening. What goes on the link then, and what was read of it already.
    pub(crate) async fn open(&self, stream: &mut Stream, id: &str, clock: Clock) -> io::Result<(Native, Vec<u8>)> {
        let id = DeviceId::new(id).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let mut input = Input { stream, bytes: [0; MAX_ANSWER], len: 0 };
        let seal = match &self.key {
            None => {
                open(&mut input, id).await?;
                None
            }
            Some((key_id, key)) if !self.encrypts => {
                let transport = keyed(&mut input, id, *key_id, key, self.outside).await?;
                // No ticket is kept: everybody could have read it.
                Some(Seal { transport, first: Vec::new(), ticket: None, keep: None })
            }
            Some((key_id, key)) => {
                let transport = match self.resume(&mut input, id, *key_id, clock).await? {
                    Some(transport) => transport,
                    None => handshake(&mut input, id, *key_id, key, self.outside).await?,
                };
                let kept = Arc::clone(&self.ticket);
                let keep = move |ticket| *lock(&kept) = Some(ticket);
                Some(Seal { transport, first: Vec::new(), ticket: None, keep: Some(Box::new(keep)) })
            }
        };
        let early = input.bytes[..input.len].to_vec();
        Ok((Native { config: self.config, seal }, early))
    }

    /// Tries to go on without a full handshake, which the server is free to want all the same.
    async fn resume(
        &self,
        input: &mut Input<'_>,
        id: DeviceId<'_>,
        key_id: KeyId,
        clock: Clock,
    ) -> io::Result<Option<Transport>> {
        let mut opening = [0; MAX_OPENING];
        let begun = {
            let mut ticket = lock(&self.ticket);
            let Some(ticket) = ticket.as_mut() else { return Ok(None) };
            let nonce = self.outside.bytes::<16>()?;
            Resumption::start(ticket, id, key_id, &nonce, clock.now(), Carrier::Lossless, &mut opening)
        };
        let Some((mut resumption, len)) = begun.map_err(too_long)? else { return Ok(None) };
        input.write(&opening[..len]).await?;
        loop {
            match resumption.finish(input.get()).map_err(refusal)? {
                None => input.fill().await?,
                Some((Resumed::Transport(transport), len)) => {
                    input.consume(len);
                    return Ok(Some(transport));
                }
                Some((Resumed::FullHandshake, len)) => {
                    input.consume(len);
                    *lock(&self.ticket) = None;
                    return Ok(None);
                }
            }
        }
    }
}

async fn handshake(
    input: &mut Input<'_>,
    id: DeviceId<'_>,
    key_id: KeyId,
    key: &Key,
    outside: Outside,
) -> io::Result<Transport> {
    let mut opening = [0; MAX_OPENING];
    let ephemeral = Ephemeral::new(&outside.bytes::<32>()?);
    let (mut handshake, len) =
        Handshake::start(id, key_id, key, ephemeral, Carrier::Lossless, &mut opening).map_err(too_long)?;
    input.write(&opening[..len]).await?;
    loop {
        match handshake.finish(input.get()).map_err(refusal)? {
            None => input.fill().await?,
            Some((transport, len)) => {
                input.consume(len);
                return Ok(transport);
            }
        }
    }
}

/// With a key, and without encryption.
async fn keyed(
    input: &mut Input<'_>,
    id: DeviceId<'_>,
    key_id: KeyId,
    key: &Key,
    outside: Outside,
) -> io::Result<Transport> {
    let mut opening = [0; MAX_OPENING];
    let nonce = outside.bytes::<16>()?;
    let (mut keyed, len) = Keyed::start(id, key_id, key, &nonce, Carrier::Lossless, &mut opening).map_err(too_long)?;
    input.write(&opening[..len]).await?;
    loop {
        match keyed.finish(input.get()) {
            Ok(None) => input.fill().await?,
            Ok(Some((transport, len))) => {
                input.consume(len);
                return Ok(transport);
            }
            Err(AnswerError::Refused { code: code::NOT_ALLOWED, .. }) => {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "the server lets this id in with encryption only: encrypt, or name the id in security.unencrypted \
                     at the server",
                ));
            }
            Err(error) => return Err(refusal(error)),
        }
    }
}

/// Without a key.
async fn open(input: &mut Input<'_>, id: DeviceId<'_>) -> io::Result<()> {
    let mut opening = [0; MAX_OPENING];
    let len = Opening { id, mode: Mode::Open, handshake: &[] }.emit(&mut opening).ok_or(io::ErrorKind::InvalidInput)?;
    input.write(&opening[..len]).await?;
    loop {
        match Answer::parse(input.get()) {
            Ok(None) => input.fill().await?,
            Ok(Some((answer, len))) => {
                if let Some(code) = answer.verdict.checked_sub(0x80) {
                    return Err(refusal(AnswerError::Refused { code, version: answer.version }));
                }
                input.consume(len);
                return Ok(());
            }
            Err(_) => return Err(refusal(AnswerError::Malformed)),
        }
    }
}

fn too_long(error: StartError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}

/// What to say of an opening that has led nowhere.
fn refusal(error: AnswerError) -> io::Error {
    let text = match error {
        AnswerError::Refused { code: code::NOT_ALLOWED, .. } => {
            "the server does not let this id in like this: it may need a key (`bowline key new` at the server), or not \
             be allowed there; the server's log says why"
                .to_owned()
        }
        AnswerError::Refused { code: code::TRY_AGAIN, .. } => "the server is busy: trying again".to_owned(),
        AnswerError::Malformed => "what answers there does not speak dialect N: is that a Bowline server?".to_owned(),
        error => error.to_string(),
    };
    io::Error::new(io::ErrorKind::ConnectionRefused, text)
}

fn lock(ticket: &Mutex<Option<Ticket>>) -> std::sync::MutexGuard<'_, Option<Ticket>> {
    // Nothing panics while it holds the lock.
    ticket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the answer, and nothing that it cannot hold.
struct Input<'a> {
    stream: &'a mut Stream,
    bytes: [u8; MAX_ANSWER],
    len: usize,
}

impl Input<'_> {
    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn consume(&mut self, count: usize) {
        self.bytes.copy_within(count..self.len, 0);
        self.len -= count;
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.bytes[self.len..]).await? {
            0 => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the server closed the connection at the opening: its log says why",
            )),
            count => {
                self.len += count;
                Ok(())
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}
