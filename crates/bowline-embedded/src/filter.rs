//! Frames that a network's stack panics at, kept from it.

use core::cell::Cell;
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

/// A network's driver, of whose frames nothing gets through that smoltcp 0.13 and 0.14 panic at.
///
/// `embassy-net` stands on smoltcp. Measured by what it does with hostile frames, lengths, options and checksums lead nowhere; four
/// of its checks are met by bytes from the network all the same, below any encryption:
///
/// - a DHCP server whose address is 0.0.0.0: what comes from there is dropped;
/// - a DHCP server that names a router that is no host, which is the likeliest of all: that option is blanked, and the board has
///   no router;
/// - a segment of TCP from half the numbers of a stream away, when the end of the stream has just filled the window: what is further
///   from the board's last acknowledgement than a quarter is dropped, and before there is one, what answers no SYN;
/// - a SYN while the other end's hardware address is being asked for: to ports from 1,025 on, where connections begin that
///   the board opens itself, those are dropped that answer nothing the board has sent. A board that listens does so below.
///
/// Parts of IPv4 packets are dropped, too: nothing is known of what they make when they are joined. All else passes as it is.
///
/// It is for Ethernet and IPv4; of IPv6 nothing is known. A board that gives others addresses by DHCP cannot have it: they have none yet.
///
/// The last `CONNECTIONS` of TCP are followed, 16 bytes each: twice as many as the stack has sockets are enough where those that
/// end are not replaced all the time. One that is not followed is not protected against the third.
///
/// ```ignore
/// let device = FrameFilter::<_>::new(device);
/// let (stack, runner) = embassy_net::new(device, config, resources, seed);
/// ```
#[derive(Debug)]
pub struct FrameFilter<D, const CONNECTIONS: usize = 8> {
    driver: D,
    /// Those that were heard of last first.
    connections: Cell<[Option<Connection>; CONNECTIONS]>,
}

impl<D, const CONNECTIONS: usize> FrameFilter<D, CONNECTIONS> {
    /// Around a driver.
    pub const fn new(driver: D) -> Self {
        FrameFilter { driver, connections: Cell::new([None; CONNECTIONS]) }
    }

    /// The driver in it.
    pub const fn driver(&mut self) -> &mut D {
        &mut self.driver
    }
}

impl<D: Driver, const CONNECTIONS: usize> Driver for FrameFilter<D, CONNECTIONS> {
    type RxToken<'a>
        = Filtered<'a, D::RxToken<'a>, CONNECTIONS>
    where
        D: 'a;
    type TxToken<'a>
        = Filtered<'a, D::TxToken<'a>, CONNECTIONS>
    where
        D: 'a;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let FrameFilter { driver, connections } = self;
        let (come, answer) = driver.receive(context)?;
        Some((Filtered { token: come, connections }, Filtered { token: answer, connections }))
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        let FrameFilter { driver, connections } = self;
        driver.transmit(context).map(|token| Filtered { token, connections })
    }

    fn link_state(&mut self, context: &mut Context<'_>) -> LinkState {
        self.driver.link_state(context)
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}

/// A frame on its way in or out.
#[derive(Debug)]
pub struct Filtered<'a, T, const CONNECTIONS: usize> {
    token: T,
    connections: &'a Cell<[Option<Connection>; CONNECTIONS]>,
}

impl<T: RxToken, const CONNECTIONS: usize> RxToken for Filtered<'_, T, CONNECTIONS> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        let Filtered { token, connections } = self;
        token.consume(|frame| match filter(frame, &connections.get()) {
            Verdict::Passes => f(frame),
            // A frame of no bytes is one that is too short: the stack drops it.
            Verdict::Dropped => f(&mut []),
        })
    }
}

impl<T: TxToken, const CONNECTIONS: usize> TxToken for Filtered<'_, T, CONNECTIONS> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Filtered { token, connections } = self;
        token.consume(len, |frame| {
            let made = f(frame);
            if let Some(Packet { protocol: TCP, target, payload, .. }) = ipv4(frame)
                && let Some(sent) = Segment::of(payload)
            {
                connections.update(|mut connections| {
                    let new = Connection::of(&sent, target);
                    if sent.flags & RST == 0 {
                        note(&mut connections, new)
                    } else {
                        forget(&mut connections, &new)
                    }
                    connections
                });
            }
            made
        })
    }
}

/// A connection as the board's last segment has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    board: u16,
    peer: u16,
    address: [u8; 4],
    /// What it has acknowledged, if that is not a SYN alone.
    acked: Option<u32>,
}

impl Connection {
    fn of(sent: &Segment, address: [u8; 4]) -> Self {
        let acked = (sent.flags & ACK != 0).then_some(sent.ack);
        Connection { board: sent.source, peer: sent.target, address, acked }
    }

    fn is_of(&self, come: &Segment, address: [u8; 4]) -> bool {
        (self.board, self.peer, self.address) == (come.target, come.source, address)
    }

    fn is_same(&self, other: &Connection) -> bool {
        (self.board, self.peer, self.address) == (other.board, other.peer, other.address)
    }

    fn takes(&self, come: &Segment) -> bool {
        match self.acked {
            // Another connection that begins, from the same port.
            _ if come.flags & (SYN | ACK) == SYN => true,
            // Later or earlier than a quarter of all numbers: nothing of the kind is on its way.
            Some(acked) => come.seq.wrapping_sub(acked).wrapping_add(QUARTER) < 2 * QUARTER,
            None => come.flags & (SYN | RST) != 0,
        }
    }
}

/// Puts a connection first. The one that was not heard of for the longest goes, if there is no room.
fn note(connections: &mut [Option<Connection>], new: Connection) {
    let mut put = Some(new);
    for place in connections {
        let known = core::mem::replace(place, put);
        if known.is_none_or(|known| known.is_same(&new)) {
            return;
        }
        put = known;
    }
}

/// The board has ended a connection. Nothing is between those that stay.
fn forget(connections: &mut [Option<Connection>], old: &Connection) {
    let Some(at) = connections.iter().position(|known| known.is_some_and(|known| known.is_same(old))) else { return };
    let Some(rest) = connections.get_mut(at..) else { return };
    if let Some(place) = rest.first_mut() {
        *place = None;
    }
    // Less than the length, which is not 0: it cannot panic.
    if rest.len() > 1 {
        rest.rotate_left(1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Dropped,
}

const ETHERNET_HEADER: usize = 14;
const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TCP: u8 = 6;
const UDP: u8 = 17;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Of the numbers of a stream.
const QUARTER: u32 = 1 << 30;
/// The first of those that `embassy-net` gives to connections.
const EPHEMERAL: u16 = 1025;

const DHCP_CLIENT: u16 = 68;
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: usize = 6;
/// Of the options, in a packet of UDP.
const DHCP_OPTIONS: usize = UDP_HEADER + 240;
const PAD: u8 = 0;
const ROUTER: u8 = 3;
const END: u8 = 255;

/// Mends a frame where that is enough, and says what becomes of it.
///
/// What is too short or contradicts itself passes: the stack reads by the same lengths, and drops it.
fn filter(frame: &mut [u8], connections: &[Option<Connection>]) -> Verdict {
    let Some(Packet { protocol, source, is_part, payload, .. }) = ipv4(frame) else { return Verdict::Passes };
    if is_part || source == [0; 4] {
        return Verdict::Dropped;
    }
    match protocol {
        TCP => of_tcp(payload, source, connections),
        UDP => {
            of_dhcp(payload);
            Verdict::Passes
        }
        _ => Verdict::Passes,
    }
}

struct Packet<'a> {
    protocol: u8,
    source: [u8; 4],
    target: [u8; 4],
    is_part: bool,
    payload: &'a mut [u8],
}

fn ipv4(frame: &mut [u8]) -> Option<Packet<'_>> {
    let (header, packet) = frame.split_at_mut_checked(ETHERNET_HEADER)?;
    if !header.ends_with(&TYPE_IPV4) {
        return None;
    }
    let [first, _, long, len, _, _, flags, offset, _, protocol, _, _, a, b, c, d, e, f, g, h, ..] = *packet else {
        return None;
    };
    let end = usize::from(u16::from_be_bytes([long, len]));
    // More parts follow, or it does not begin at 0.
    let is_part = flags & 0x3f != 0 || offset != 0;
    let payload = packet.get_mut(usize::from(first & 0x0f) * 4..end)?;
    Some(Packet { protocol, source: [a, b, c, d], target: [e, f, g, h], is_part, payload })
}

/// The beginning of a segment of TCP.
struct Segment {
    source: u16,
    target: u16,
    seq: u32,
    ack: u32,
    flags: u8,
}

impl Segment {
    fn of(payload: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, _, flags, ..] = *payload else { return None };
        let (source, target) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let (seq, ack) = (u32::from_be_bytes([e, f, g, h]), u32::from_be_bytes([i, j, k, l]));
        Some(Segment { source, target, seq, ack, flags })
    }
}

fn of_tcp(payload: &[u8], source: [u8; 4], connections: &[Option<Connection>]) -> Verdict {
    let Some(come) = Segment::of(payload) else { return Verdict::Passes };
    let known = connections.iter().flatten().find(|known| known.is_of(&come, source));
    let is_opening = come.flags & SYN != 0 && come.target >= EPHEMERAL;
    let passes = match known {
        // The board's own SYN is not out yet, or there was none.
        None => !is_opening,
        Some(_) if is_opening && come.flags & ACK == 0 => false,
        Some(known) => known.takes(&come),
    };
    if passes { Verdict::Passes } else { Verdict::Dropped }
}

/// Blanks routers that are no hosts, if this is for the client of DHCP.
fn of_dhcp(packet: &mut [u8]) {
    let [_, _, high, low, long, len, ..] = *packet else { return };
    if u16::from_be_bytes([high, low]) != DHCP_CLIENT {
        return;
    }
    let Some(packet) = packet.get_mut(..usize::from(u16::from_be_bytes([long, len]))) else { return };
    let mut at = DHCP_OPTIONS;
    while let Some(&[kind, ref rest @ ..]) = packet.get(at..) {
        let end = match (kind, rest) {
            (PAD, _) => at + 1,
            (END, _) | (_, []) => return,
            (_, [len, ..]) => at + 2 + usize::from(*len),
        };
        let Some(option) = packet.get(at..end) else { return };
        if matches!(*option, [ROUTER, 4, a, b, c, d] if !is_host([a, b, c, d])) {
            (at..end).for_each(|at| change(packet, at, PAD));
        }
        at = end;
    }
}

fn is_host(address: [u8; 4]) -> bool {
    !matches!(address, [0, 0, 0, 0] | [255, 255, 255, 255] | [224..=239, ..])
}

/// Changes a byte of a packet of UDP, and the checksum by what that makes of it (RFC 1624): what was damaged before stays so.
fn change(packet: &mut [u8], at: usize, new: u8) {
    let Some(byte) = packet.get_mut(at) else { return };
    let old = core::mem::replace(byte, new);
    let Some([high, low]) = packet.get_mut(UDP_CHECKSUM..UDP_CHECKSUM + 2) else { return };
    let before = u16::from_be_bytes([*high, *low]);
    if before == 0 {
        // It has none.
        return;
    }
    let word = |byte: u8| u16::from_be_bytes(if at.is_multiple_of(2) { [byte, 0] } else { [0, byte] });
    let sum = u32::from(!before) + u32::from(!word(old)) + u32::from(word(new));
    let sum = (sum & 0xffff) + (sum >> 16);
    let after = !((sum + (sum >> 16)) as u16);
    // 0 and this are the same number, but the former says that there is none.
    [*high, *low] = if after == 0 { [0xff; 2] } else { after.to_be_bytes() };
}
