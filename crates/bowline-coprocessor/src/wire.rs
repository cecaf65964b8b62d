//! Frames on the line.
//!
//! A frame is a kind, its fields and a checksum, all of it [COBS](https://en.wikipedia.org/wiki/Consistent_Overhead_Byte_Stuffing)-encoded
//! and ended by a zero. Whoever has lost bytes goes on behind the next zero. Numbers are little-endian.

use core::net::{IpAddr, SocketAddr};

use bowline_proto::Crc;

/// Most bytes of a stream in one frame.
pub(crate) const MAX_DATA: usize = 128;
const CRC: usize = 4;
const MAX_BODY: usize = 9 + MAX_DATA + CRC;
/// With a byte that COBS adds, and the zero.
pub(crate) const MAX_FRAME: usize = MAX_BODY + 2;
/// Longest names and passwords that WiFi has.
pub(crate) const MAX_SSID: usize = 32;
pub(crate) const MAX_PASSWORD: usize = 64;
const _: () = assert!(2 + 2 + MAX_SSID + MAX_PASSWORD + CRC <= MAX_BODY);

const CREDENTIALS: u8 = 1;
const BOARD: u8 = 2;
const COPROCESSOR: u8 = 3;
const DATA: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// What attempt `join` to join the network needs.
    Credentials { join: u8, ssid: &'a [u8], password: &'a [u8] },
    /// What the board wants and has.
    Board(Board),
    /// What the co-processor does and has.
    Coprocessor(Coprocessor),
    /// Bytes of a connection, from `offset` on.
    Data { tag: u32, offset: u32, bytes: &'a [u8] },
}

/// A connection's name, other for each life of the board: numbers begin anew with it. The co-processor's life is not in it: what
/// one has sent is there before the next one's first word, at which the board begins anew.
pub(crate) const fn tag(life: u32, conn: u8) -> u32 {
    life.wrapping_add(conn as u32)
}

/// How far one direction of a connection has come, said by who receives it. Offsets are of the bytes since the
/// connection's beginning, and wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) received: u32,
    /// There is room up to here.
    pub(crate) limit: u32,
    /// What comes is not what follows: to be sent again from `received` on.
    pub(crate) again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Board {
    /// Of this life of the board, drawn at random. Never 0.
    pub(crate) life: u32,
    /// The life of the co-processor that this is for, 0 if it has not heard of it.
    pub(crate) boot: u32,
    /// The attempt to join the network that is wanted, or 0 to leave it.
    pub(crate) join: u8,
    /// The connection that is wanted, and where to.
    pub(crate) wanted: Option<(u8, SocketAddr)>,
    pub(crate) flow: Flow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coprocessor {
    /// The life of the board it works for, 0 if it has not heard of it.
    pub(crate) life: u32,
    /// Of this life of the co-processor, drawn at random. Never 0.
    pub(crate) boot: u32,
    /// The attempt to join the network that it is at, and what has come of it.
    pub(crate) join: u8,
    pub(crate) network: NetworkState,
    /// In dBm.
    pub(crate) signal: Option<i8>,
    /// Seconds since its start.
    pub(crate) uptime: u32,
    /// The connection it is at, 0 for none, and what has come of it.
    pub(crate) conn: u8,
    pub(crate) tcp: TcpState,
    pub(crate) flow: Flow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkState {
    Down,
    Up,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TcpState {
    Connecting,
    Open,
    /// The peer has closed it, after so many bytes.
    Ended(u32),
    Refused,
    Reset,
    Failed,
}

impl Frame<'_> {
    /// Writes it into `out`. Its length.
    pub(crate) fn emit(&self, out: &mut [u8; MAX_FRAME]) -> usize {
        let mut body = Fill { bytes: [0; MAX_BODY], len: 0 };
        match *self {
            Frame::Credentials { join, ssid, password } => {
                body.put(&[CREDENTIALS, join, ssid.len() as u8]);
                body.put(ssid);
                body.put(&[password.len() as u8]);
                body.put(password);
            }
            Frame::Board(Board { life, boot, join, wanted, flow }) => {
                body.put(&[BOARD]);
                body.put(&life.to_le_bytes());
                body.put(&boot.to_le_bytes());
                body.put(&[join]);
                match wanted {
                    None => body.put(&[0]),
                    Some((conn, server)) => {
                        body.put(&[conn]);
                        match server.ip() {
                            IpAddr::V4(ip) => {
                                body.put(&[4]);
                                body.put(&ip.octets());
                            }
                            IpAddr::V6(ip) => {
                                body.put(&[6]);
                                body.put(&ip.octets());
                            }
                        }
                        body.put(&server.port().to_le_bytes());
                    }
                }
                body.put_flow(flow);
            }
            Frame::Coprocessor(Coprocessor { life, boot, join, network, signal, uptime, conn, tcp, flow }) => {
                body.put(&[COPROCESSOR]);
                body.put(&life.to_le_bytes());
                body.put(&boot.to_le_bytes());
                body.put(&[join, network as u8, signal.unwrap_or(i8::MIN) as u8]);
                body.put(&uptime.to_le_bytes());
                let (state, total) = match tcp {
                    TcpState::Connecting => (0, 0),
                    TcpState::Open => (1, 0),
                    TcpState::Ended(total) => (2, total),
                    TcpState::Refused => (3, 0),
                    TcpState::Reset => (4, 0),
                    TcpState::Failed => (5, 0),
                };
                body.put(&[conn, state]);
                body.put(&total.to_le_bytes());
                body.put_flow(flow);
            }
            Frame::Data { tag, offset, bytes } => {
                body.put(&[DATA]);
                body.put(&tag.to_le_bytes());
                body.put(&offset.to_le_bytes());
                body.put(bytes);
            }
        }
        let crc = Crc::new().with(&body.bytes[..body.len]).value();
        body.put(&crc.to_le_bytes());
        let len = cobs::encode(&body.bytes[..body.len], out);
        out[len] = 0;
        len + 1
    }

    fn parse(body: &[u8]) -> Option<Frame<'_>> {
        let (fields, crc) = body.split_last_chunk()?;
        if Crc::new().with(fields).value() != u32::from_le_bytes(*crc) || body.len() > MAX_BODY {
            return None;
        }
        let mut rest = Rest(fields);
        let frame = match rest.byte()? {
            CREDENTIALS => {
                let join = rest.byte()?;
                let ssid = rest.text(MAX_SSID)?;
                Frame::Credentials { join, ssid, password: rest.text(MAX_PASSWORD)? }
            }
            BOARD => {
                let (life, boot, join, conn) = (rest.number()?, rest.number()?, rest.byte()?, rest.byte()?);
                let wanted = match conn {
                    0 => None,
                    conn => {
                        let ip = match rest.byte()? {
                            4 => IpAddr::from(rest.chunk::<4>()?),
                            6 => IpAddr::from(rest.chunk::<16>()?),
                            _ => return None,
                        };
                        Some((conn, SocketAddr::new(ip, u16::from_le_bytes(rest.chunk()?))))
                    }
                };
                Frame::Board(Board { life, boot, join, wanted, flow: rest.flow()? })
            }
            COPROCESSOR => {
                let (life, boot, join) = (rest.number()?, rest.number()?, rest.byte()?);
                let network = match rest.byte()? {
                    0 => NetworkState::Down,
                    1 => NetworkState::Up,
                    2 => NetworkState::Failed,
                    _ => return None,
                };
                let signal = Some(rest.byte()? as i8).filter(|signal| *signal != i8::MIN);
                let uptime = rest.number()?;
                let (conn, state, total) = (rest.byte()?, rest.byte()?, rest.number()?);
                let tcp = match state {
                    0 => TcpState::Connecting,
                    1 => TcpState::Open,
                    2 => TcpState::Ended(total),
                    3 => TcpState::Refused,
                    4 => TcpState::Reset,
                    5 => TcpState::Failed,
                    _ => return None,
                };
                let flow = rest.flow()?;
                Frame::Coprocessor(Coprocessor { life, boot, join, network, signal, uptime, conn, tcp, flow })
            }
            DATA => {
                let (tag, offset) = (rest.number()?, rest.number()?);
                return Some(Frame::Data { tag, offset, bytes: rest.0 });
            }
            _ => return None,
        };
        rest.0.is_empty().then_some(frame)
    }
}

/// A body that grows. No frame is longer than [`MAX_BODY`], which the assertion above and the callers' bounds say.
struct Fill {
    bytes: [u8; MAX_BODY],
    len: usize,
}

impl Fill {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_flow(&mut self, Flow { received, limit, again }: Flow) {
        self.put(&received.to_le_bytes());
        self.put(&limit.to_le_bytes());
        self.put(&[again.into()]);
    }
}

/// What is left of a body.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn byte(&mut self) -> Option<u8> {
        self.chunk().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn text(&mut self, most: usize) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(len).filter(|_| len <= most)?;
        self.0 = rest;
        Some(text)
    }

    fn flow(&mut self) -> Option<Flow> {
        let (received, limit) = (self.number()?, self.number()?);
        let again = match self.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Flow { received, limit, again })
    }
}

/// Finds frames among the bytes that come.
pub(crate) struct Decoder {
    bytes: [u8; MAX_FRAME],
    len: usize,
    /// What comes before the next zero is no frame.
    is_spoiled: bool,
}

impl Decoder {
    pub(crate) const fn new() -> Self {
        Decoder { bytes: [0; MAX_FRAME], len: 0, is_spoiled: false }
    }

    /// Takes a byte. At the end of a frame, the frame, or an error if it was none.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, Damaged>> {
        if byte != 0 {
            match self.bytes.get_mut(self.len) {
                Some(place) => (*place, self.len) = (byte, self.len + 1),
                None => self.is_spoiled = true,
            }
            return None;
        }
        let len = core::mem::take(&mut self.len);
        if core::mem::take(&mut self.is_spoiled) {
            return Some(Err(Damaged));
        }
        let encoded = &mut self.bytes[..len];
        if encoded.is_empty() {
            return None;
        }
        let frame = cobs::decode_in_place(encoded).ok().and_then(|len| Frame::parse(&self.bytes[..len]));
        Some(frame.ok_or(Damaged))
    }
}

/// What came is no frame: bits have changed, or bytes were lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    const FLOW: Flow = Flow { received: 7, limit: u32::MAX, again: true };

    fn frames() -> [Frame<'static>; 6] {
        let board = Board { life: 0x0102_0304, boot: 8, join: 3, wanted: None, flow: FLOW };
        let v6 = Some((255, "[2001:db8::1]:65535".parse().unwrap()));
        let tcp = TcpState::Ended(99);
        let (network, signal) = (NetworkState::Up, Some(-67));
        let seen =
            Coprocessor { life: 9, boot: 1 << 31, join: 0, network, signal, uptime: 1, conn: 2, tcp, flow: FLOW };
        [
            Frame::Credentials { join: 1, ssid: &[b's'; MAX_SSID], password: &[0; MAX_PASSWORD] },
            Frame::Board(board),
            Frame::Board(Board { wanted: Some((1, "192.168.0.41:9999".parse().unwrap())), ..board }),
            Frame::Board(Board { wanted: v6, ..board }),
            Frame::Coprocessor(seen),
            Frame::Data { tag: 1, offset: 5, bytes: &[0; MAX_DATA] },
        ]
    }

    fn emitted(frame: &Frame<'_>) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let len = frame.emit(&mut out);
        out[..len].to_vec()
    }

    #[test]
    fn frames_come_as_they_went() {
        let mut decoder = Decoder::new();
        for frame in frames() {
            let bytes = emitted(&frame);
            let (last, rest) = bytes.split_last().unwrap();
            assert!(rest.iter().all(|byte| decoder.push(*byte).is_none()));
            assert_eq!(decoder.push(*last), Some(Ok(frame)));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_lost_byte_is_taken_for_a_frame() {
        for frame in frames() {
            let bytes = emitted(&frame);
            let flips = (0..bytes.len() * 8).map(|bit| {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            });
            // The zero at the end is one like that behind it.
            let losses = (0..bytes.len() - 1).map(|at| {
                let mut bytes = bytes.clone();
                bytes.remove(at);
                bytes
            });
            for mut damaged in flips.chain(losses) {
                // What is behind it is found.
                damaged.push(0);
                damaged.extend(&bytes);
                let mut decoder = Decoder::new();
                let mut found = 0;
                for byte in damaged {
                    if let Some(Ok(seen)) = decoder.push(byte) {
                        assert_eq!(seen, frame);
                        found += 1;
                    }
                }
                assert_eq!(found, 1);
            }
        }
    }

    #[test]
    fn what_is_longer_than_a_frame_is_passed_over() {
        let mut decoder = Decoder::new();
        assert!((0..10 * MAX_FRAME).all(|_| decoder.push(1).is_none()));
        assert_eq!(decoder.push(0), Some(Err(Damaged)));
        let frame = frames()[1];
        let found = emitted(&frame).into_iter().filter(|byte| decoder.push(*byte) == Some(Ok(frame))).count();
        assert_eq!(found, 1);
    }
}
