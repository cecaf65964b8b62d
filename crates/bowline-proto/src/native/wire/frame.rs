//! A body's frames (§9.2).

use super::{Credit, FrameError, Hello, NUMBER_LIMIT, Reader, Start, Welcome, Writer};

/// Most bytes a DATA frame takes beside its payload (§9.3).
pub const DATA_OVERHEAD: u16 = 10;
/// Whether frames of devices are read and those of servers written. Others are unknown.
const SERVER: bool = cfg!(feature = "server");
/// Longest text of CLOSE, in bytes.
pub const MAX_CLOSE_TEXT: usize = 64;

/// One frame. Borrows payloads from the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The device begins.
    Hello(Hello),
    /// The server answers.
    Welcome(Welcome),
    /// The device takes it.
    Start(Start),
    /// A qos message.
    Data(Data<'a>),
    /// A best-effort message.
    Best(Best<'a>),
    /// Messages that were dropped by their sender.
    Gap(Gap),
    /// What is durable, and what may be sent.
    Ack(Ack),
    /// The app has handled everything up to this seq.
    Processed(u64),
    /// Are you there?
    Ping(u32),
    /// Yes; the token of the question.
    Pong(u32),
    /// The link ends.
    Close(Close<'a>),
}

/// Where in an app a message belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Channel {
    /// The app's ident.
    pub app: u8,
    /// Which of its instances.
    pub instance: u8,
    /// For the app to use.
    pub tag: u8,
}

/// A qos message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// The low 16 bits of its seq.
    pub seq: u16,
    /// The sender wants the acknowledgement at once.
    pub ask: bool,
    /// Where it belongs.
    pub channel: Channel,
    /// Any bytes.
    pub payload: &'a [u8],
}

/// A best-effort message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Best<'a> {
    /// Where it belongs.
    pub channel: Channel,
    /// Any bytes.
    pub payload: &'a [u8],
}

/// Messages that will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: u64,
    /// The last of them; not below `first`.
    pub last: u64,
    /// Why (§11.5).
    pub reason: u8,
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Everything up to this seq is durable.
    pub durable: u64,
    /// Everything up to this seq was received on this link; not below `durable`.
    pub received: u64,
    /// What may be sent.
    pub credit: Credit,
    /// Something behind `received` was seen: the next is missing (§13.2).
    pub missing: bool,
}

/// The end of a link, with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// §16.2.
    pub code: u8,
    /// For people; at most [`MAX_CLOSE_TEXT`] bytes. Without the feature `server` it is not read, and empty.
    pub text: &'a str,
}

/// What was at the front of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The frame; `None` for one that this version skips (§9.4).
    pub frame: Option<Frame<'a>>,
    /// Its length in bytes, at least 1.
    pub len: usize,
}

impl<'a> Frame<'a> {
    /// Reads the frame at the front of `body`.
    ///
    /// # Errors
    /// If there is none that is whole and valid.
    #[cfg_attr(not(feature = "server"), inline(never))]
    pub fn parse(body: &'a [u8]) -> Result<Parsed<'a>, FrameError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let frame = match r.u8() {
            0x01 if SERVER => Some(Frame::Hello(Hello::parse(r))),
            0x02 => Some(Frame::Welcome(Welcome::parse(r))),
            0x03 if SERVER => Some(Frame::Start(Start::parse(r))),
            kind @ (0x10 | 0x11) => Some(Frame::Data(Data {
                seq: r.u16(),
                ask: kind == 0x11,
                channel: Channel::parse(r),
                payload: payload(r),
            })),
            0x12 => Some(Frame::Best(Best { channel: Channel::parse(r), payload: payload(r) })),
            0x13 => {
                let (first, count) = (r.number(), r.number());
                r.check(first != 0 && count != 0);
                let last = first.saturating_add(count.saturating_sub(1));
                r.check(last < NUMBER_LIMIT);
                Some(Frame::Gap(Gap { first, last, reason: r.u8() }))
            }
            kind @ (0x14 | 0x15) => {
                let durable = r.number();
                let received = r.sum(durable);
                Some(Frame::Ack(Ack { durable, received, credit: Credit::parse(r), missing: kind == 0x15 }))
            }
            0x16 => Some(Frame::Processed(r.number())),
            0x17 => Some(Frame::Ping(r.u32())),
            0x18 => Some(Frame::Pong(r.u32())),
            0x1f => {
                let (code, len) = (r.u8(), r.u8().into());
                let text = r.bytes(len);
                // On a board nobody would read it.
                let text = if SERVER { core::str::from_utf8(text) } else { Ok("") };
                r.check(len <= MAX_CLOSE_TEXT && text.is_ok());
                Some(Frame::Close(Close { code, text: text.unwrap_or_default() }))
            }
            0x80.. => {
                payload(r);
                None
            }
            kind => {
                r.fails(FrameError::Type(kind));
                None
            }
        };
        let left = reader.finish()?;
        Ok(Parsed { frame, len: body.len() - left })
    }

    /// Writes the frame to the front of `buffer` and says how many bytes that took; `None` if the
    /// buffer is too short or a field has a value that it cannot have.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(buffer);
        let w = &mut writer;
        match self {
            Frame::Hello(hello) => {
                w.u8(0x01);
                hello.emit(w);
            }
            Frame::Welcome(_) if !SERVER => w.fails(),
            Frame::Welcome(welcome) => {
                w.u8(0x02);
                welcome.emit(w);
            }
            Frame::Start(start) => {
                w.u8(0x03);
                start.emit(w);
            }
            Frame::Data(Data { seq, ask, channel, payload }) => {
                data_head(w, *seq, *ask, *channel, payload.len());
                w.bytes(payload);
            }
            Frame::Best(Best { channel, payload }) => {
                w.u8(0x12);
                channel.emit(w);
                w.number(payload.len() as u64);
                w.bytes(payload);
            }
            Frame::Gap(Gap { first, last, reason }) => {
                w.u8(0x13);
                w.number(*first);
                // Beyond all numbers if there is none.
                w.number(last.checked_sub(*first).map_or(u64::MAX, |more| more.saturating_add(1)));
                w.u8(*reason);
            }
            Frame::Ack(Ack { durable, received, credit, missing }) => {
                w.u8(0x14 | u8::from(*missing));
                w.number(*durable);
                w.difference(*received, *durable);
                credit.emit(w);
            }
            Frame::Processed(seq) => {
                w.u8(0x16);
                w.number(*seq);
            }
            Frame::Ping(token) => {
                w.u8(0x17);
                w.bytes(&token.to_be_bytes());
            }
            Frame::Pong(token) => {
                w.u8(0x18);
                w.bytes(&token.to_be_bytes());
            }
            Frame::Close(Close { code, text }) => {
                if text.len() > MAX_CLOSE_TEXT {
                    w.fails();
                }
                w.bytes(&[0x1f, *code, text.len() as u8]);
                w.bytes(text.as_bytes());
            }
        }
        writer.finish()
    }
}

impl Data<'_> {
    /// Writes what stands in front of the payload, and says how many bytes that took: for senders that have the
    /// payload of `len` bytes read into its place behind it. `None` if the buffer is too short.
    #[must_use]
    pub fn emit_head(seq: u16, ask: bool, channel: Channel, len: usize, buffer: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(buffer);
        data_head(&mut writer, seq, ask, channel, len);
        writer.finish()
    }

    /// How many bytes [`Data::emit_head`] writes for a payload of `len` bytes.
    #[must_use]
    pub const fn head_len(len: usize) -> usize {
        match len {
            0..=0x3f => 7,
            0x40..=0x3fff => 8,
            _ => DATA_OVERHEAD as usize,
        }
    }
}

fn data_head(writer: &mut Writer<'_>, seq: u16, ask: bool, channel: Channel, len: usize) {
    writer.u8(0x10 | u8::from(ask));
    writer.bytes(&seq.to_be_bytes());
    channel.emit(writer);
    writer.number(len as u64);
}

impl Channel {
    fn parse(reader: &mut Reader<'_>) -> Self {
        Channel { app: reader.u8(), instance: reader.u8(), tag: reader.u8() }
    }

    fn emit(self, writer: &mut Writer<'_>) {
        writer.bytes(&[self.app, self.instance, self.tag]);
    }
}

fn payload<'a>(reader: &mut Reader<'a>) -> &'a [u8] {
    let len = reader.small();
    reader.bytes(len)
}
