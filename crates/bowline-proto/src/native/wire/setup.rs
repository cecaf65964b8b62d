//! The three frames that start a link (§9.2, §10.2).

use super::{FrameError, MAX_BODY, MIN_BODY, NUMBER_LIMIT, Reader, Writer};

/// Most messages that credit can be given for (§9.2).
pub const MAX_CREDIT: u64 = 16_384;

/// The device begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Highest protocol version it speaks.
    pub version: u8,
    /// What it can beyond this version (§17).
    pub features: u32,
    /// Its epoch, 0 if it has none.
    pub epoch: u64,
    /// The keepalive interval it would like, in milliseconds.
    pub keepalive: u32,
    /// Largest body it takes.
    pub max_body: u16,
}

/// The server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Highest protocol version it speaks.
    pub version: u8,
    /// What became of the device's epoch.
    pub outcome: Outcome,
    /// What it can beyond this version (§17).
    pub features: u32,
    /// The epoch offered.
    pub epoch: u64,
    /// The keepalive interval, in milliseconds.
    pub keepalive: u32,
    /// Largest body it takes.
    pub max_body: u16,
    /// Where it stands.
    pub cursors: Cursors,
    /// What the device may send.
    pub credit: Credit,
}

/// The device takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The epoch that was offered.
    pub epoch: u64,
    /// Where it stands.
    pub cursors: Cursors,
    /// What the server may send.
    pub credit: Credit,
}

/// What the server says to the device's epoch (§10.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It goes on.
    Resumed,
    /// A new one begins.
    New,
    /// The server knows nothing of it; a new one begins.
    Forgotten,
    /// It lies behind: not believed.
    Quarantined,
}

/// Where an end stands in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursors {
    /// It has the peer's messages up to this one durably.
    pub durable: u64,
    /// Its running process has them up to this one; not below `durable`.
    pub received: u64,
    /// Its own messages up to this one are acknowledged (*first* − 1).
    pub acked: u64,
    /// The last message it has ever stored for sending; not below `acked`.
    pub last: u64,
}

/// What the peer may send: two limits (§11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credit {
    /// Messages beyond those received. At most [`MAX_CREDIT`].
    pub messages: u64,
    /// Bytes of payload, counted from the start of the link.
    pub bytes: u64,
}

fn max_body(reader: &mut Reader<'_>) -> Result<u16, FrameError> {
    let len = reader.small()?;
    if (MIN_BODY..=MAX_BODY).contains(&len) { Ok(len) } else { Err(FrameError::Invalid) }
}

impl Hello {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let version = reader.u8()?;
        Ok(Hello {
            version,
            features: reader.small()?,
            epoch: reader.number()?,
            keepalive: reader.small()?,
            max_body: max_body(reader)?,
        })
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.u8(self.version)?;
        writer.number(self.features.into())?;
        writer.number(self.epoch)?;
        writer.number(self.keepalive.into())?;
        writer.number(self.max_body.into())
    }
}

impl Welcome {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let version = reader.u8()?;
        let outcome = match reader.u8()? {
            0 => Outcome::Resumed,
            1 => Outcome::New,
            2 => Outcome::Forgotten,
            3 => Outcome::Quarantined,
            _ => return Err(FrameError::Invalid),
        };
        Ok(Welcome {
            version,
            outcome,
            features: reader.small()?,
            epoch: reader.number()?,
            keepalive: reader.small()?,
            max_body: max_body(reader)?,
            cursors: Cursors::parse(reader)?,
            credit: Credit::parse(reader)?,
        })
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.u8(self.version)?;
        writer.u8(match self.outcome {
            Outcome::Resumed => 0,
            Outcome::New => 1,
            Outcome::Forgotten => 2,
            Outcome::Quarantined => 3,
        })?;
        writer.number(self.features.into())?;
        writer.number(self.epoch)?;
        writer.number(self.keepalive.into())?;
        writer.number(self.max_body.into())?;
        self.cursors.emit(writer)?;
        self.credit.emit(writer)
    }
}

impl Start {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        Ok(Start { epoch: reader.number()?, cursors: Cursors::parse(reader)?, credit: Credit::parse(reader)? })
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.number(self.epoch)?;
        self.cursors.emit(writer)?;
        self.credit.emit(writer)
    }
}

impl Cursors {
    fn parse(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let durable = reader.number()?;
        let received = sum(durable, reader.number()?)?;
        let (acked, last) = (reader.number()?, reader.number()?);
        if acked <= last { Ok(Cursors { durable, received, acked, last }) } else { Err(FrameError::Invalid) }
    }

    fn emit(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.number(self.durable)?;
        writer.number(self.received.checked_sub(self.durable)?)?;
        writer.number(self.acked)?;
        writer.number(self.last)
    }
}

impl Credit {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        let (messages, bytes) = (reader.number()?, reader.number()?);
        if messages <= MAX_CREDIT { Ok(Credit { messages, bytes }) } else { Err(FrameError::Invalid) }
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) -> Option<()> {
        writer.number(self.messages)?;
        writer.number(self.bytes)
    }
}

/// The sum of two numbers off the wire, which is one too.
pub(super) fn sum(a: u64, b: u64) -> Result<u64, FrameError> {
    Some(a + b).filter(|&sum| sum < NUMBER_LIMIT).ok_or(FrameError::Invalid)
}
