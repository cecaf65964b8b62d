//! The three frames that start a link (§9.2, §10.2).

use super::{MAX_BODY, MIN_BODY, Reader, Writer};

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

fn max_body(reader: &mut Reader<'_>) -> u16 {
    let len = reader.small();
    reader.check((MIN_BODY..=MAX_BODY).contains(&len));
    len
}

impl Hello {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Self {
        Hello {
            version: reader.u8(),
            features: reader.small(),
            epoch: reader.number(),
            keepalive: reader.small(),
            max_body: max_body(reader),
        }
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.version);
        writer.number(self.features.into());
        writer.number(self.epoch);
        writer.number(self.keepalive.into());
        writer.number(self.max_body.into());
    }
}

impl Welcome {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Self {
        let (version, outcome) = (reader.u8(), reader.u8());
        reader.check(outcome <= 3);
        let outcome = match outcome {
            0 => Outcome::Resumed,
            1 => Outcome::New,
            2 => Outcome::Forgotten,
            _ => Outcome::Quarantined,
        };
        Welcome {
            version,
            outcome,
            features: reader.small(),
            epoch: reader.number(),
            keepalive: reader.small(),
            max_body: max_body(reader),
            cursors: Cursors::parse(reader),
            credit: Credit::parse(reader),
        }
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) {
        writer.u8(self.version);
        writer.u8(match self.outcome {
            Outcome::Resumed => 0,
            Outcome::New => 1,
            Outcome::Forgotten => 2,
            Outcome::Quarantined => 3,
        });
        writer.number(self.features.into());
        writer.number(self.epoch);
        writer.number(self.keepalive.into());
        writer.number(self.max_body.into());
        self.cursors.emit(writer);
        self.credit.emit(writer);
    }
}

impl Start {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Self {
        Start { epoch: reader.number(), cursors: Cursors::parse(reader), credit: Credit::parse(reader) }
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) {
        writer.number(self.epoch);
        self.cursors.emit(writer);
        self.credit.emit(writer);
    }
}

impl Cursors {
    fn parse(reader: &mut Reader<'_>) -> Self {
        let durable = reader.number();
        let received = reader.sum(durable);
        let (acked, last) = (reader.number(), reader.number());
        reader.check(acked <= last);
        Cursors { durable, received, acked, last }
    }

    fn emit(&self, writer: &mut Writer<'_>) {
        writer.number(self.durable);
        writer.difference(self.received, self.durable);
        writer.number(self.acked);
        writer.number(self.last);
    }
}

impl Credit {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Self {
        let (messages, bytes) = (reader.number(), reader.number());
        reader.check(messages <= MAX_CREDIT);
        Credit { messages, bytes }
    }

    pub(super) fn emit(&self, writer: &mut Writer<'_>) {
        writer.number(self.messages);
        writer.number(self.bytes);
    }
}
