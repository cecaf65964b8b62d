//! What a network's stack panics at does not get there.
//!
//! smoltcp is driven as `embassy-net` drives it, with a DHCP client and a connection to a server, by frames of somebody who
//! knows all that the board sends. Each of the four causes that are known is a script; it is run without the filter too, and
//! the day it does not panic any more the filter has one thing less to do.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context;

use bowline_embedded::FrameFilter;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken as _};
use fastrand::Rng;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress as Hardware, IpCidr, Ipv4Address};

const BOARD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const SERVER: [u8; 4] = [10, 0, 2, 2];
const BOARD: [u8; 4] = [10, 0, 2, 15];
const PORT: u16 = 9999;
/// Bytes of each buffer of the connection.
const STREAM: usize = 1024;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

#[test]
fn a_dhcp_server_without_an_address_is_not_heard() {
    both(|board| {
        let renewed_at_once = [51, 4, 0, 0, 14, 16, 58, 4, 0, 0, 0, 1, 59, 4, 0, 0, 0, 60];
        board.is_given([0; 4], [255, 255, 255, 0], Some(SERVER), &renewed_at_once);
        board.waits(1_000);
        !board.is_up
    });
}

#[test]
fn a_router_that_is_no_host_is_none() {
    for router in [[0; 4], [255; 4], [224, 0, 0, 1]] {
        both(|board| {
            board.is_given(SERVER, [255, 255, 255, 0], Some(router), &[]);
            // From another network: the answer would go by the router.
            let elsewhere = [8, 8, 8, 8];
            let port = Tcp { to: 80, flags: SYN, ..Tcp::default() };
            board.hears(&ethernet(&ipv4(elsewhere, BOARD, 6, &port.segment(elsewhere, BOARD))));
            board.is_up
        });
    }
}

#[test]
fn a_router_that_is_a_host_stays() {
    let mut board = Board::new(true, 1);
    board.is_given(SERVER, [255, 255, 255, 252], Some(SERVER), &[]);
    assert_eq!(board.router, Some(Ipv4Address::from(SERVER)));
}

#[test]
fn far_numbers_behind_the_end_of_a_stream_lead_nowhere() {
    for (payload, end_comes_with_it) in [(0, true), (1, true), (0, false), (1, false)] {
        both(|board| {
            let (seq, ack) = board.connects(&[4, 2]);
            let says =
                |seq, flags, payload: &[u8]| Tcp { seq, ack, flags, payload: payload.to_vec(), ..Tcp::default() };
            let end = seq.wrapping_add(STREAM as u32);
            board.tcp(&says(seq, if end_comes_with_it { FIN | ACK } else { ACK }, &[1; STREAM]));
            if !end_comes_with_it {
                board.tcp(&says(end, FIN | ACK, &[]));
            }
            // Its acknowledgement waits 10 ms.
            board.waits(5);
            board.tcp(&says(end.wrapping_add(1 + 0x7fff_ffff), ACK, &vec![1; payload]));
            board.takes(STREAM);
            board.state() == tcp::State::CloseWait
        });
    }
}

#[test]
fn far_numbers_before_the_first_acknowledgement_lead_nowhere() {
    let mut board = Board::new(true, 1);
    board.is_given(SERVER, [255, 255, 255, 0], Some(SERVER), &[]);
    board.opens();
    board.hears(&arp(2, SERVER, BOARD));
    board.waits(2_000);
    let syn = board.last_sent();
    let opens = Tcp { seq: 7_000, ack: syn.seq + 1, flags: SYN | ACK, ..Tcp::default() };
    // All within one turn of the stack: it acknowledges nothing in between.
    for segment in [
        opens,
        Tcp { seq: 7_001, ack: syn.seq + 1, flags: FIN | ACK, payload: vec![1; STREAM], ..Tcp::default() },
        Tcp { seq: 7_001 + STREAM as u32 + 1 + 0x7fff_ffff, ack: syn.seq + 1, ..Tcp::default() },
    ] {
        board.comes(&segment);
    }
    board.polls();
    assert_eq!(board.state(), tcp::State::Established);
}

#[test]
fn nobody_opens_connections_to_the_port_of_ours() {
    both(|board| {
        board.is_given(SERVER, [255, 255, 255, 0], Some(SERVER), &[]);
        board.opens();
        let syn = Tcp { to: board.port, seq: 5, flags: SYN, ..Tcp::default() };
        board.hears(&ethernet(&ipv4(SERVER, BOARD, 6, &syn.segment(SERVER, BOARD))));
        board.state() == tcp::State::SynSent
    });
}

#[test]
fn nobody_answers_what_the_board_has_not_sent() {
    both(|board| {
        board.is_given(SERVER, [255, 255, 255, 0], Some(SERVER), &[]);
        board.opens();
        // As if the number of the SYN, which waits for the address, had been guessed.
        let number = board.asks_before_it_sends();
        board.tcp(&Tcp { seq: 5, ack: number.wrapping_add(1), flags: SYN | ACK, ..Tcp::default() });
        board.state() == tcp::State::SynSent
    });
}

#[test]
fn a_board_that_listens_is_reached_again_from_the_same_port() {
    let mut board = Board::new(true, 1);
    board.is_given(SERVER, [255, 255, 255, 0], Some(SERVER), &[]);
    board.hears(&arp(1, SERVER, BOARD));
    for seq in [7_000, 3_000_000_000, 1_500_000_000] {
        board.listens(80);
        board.comes(&Tcp { seq, ack: 0, flags: SYN, ..Tcp::default() });
        board.polls();
        let sent = board.last_sent();
        assert_eq!(sent.ack, seq + 1, "its answer");
        board.tcp(&Tcp { seq: seq + 1, ack: sent.seq.wrapping_add(1), ..Tcp::default() });
        assert_eq!(board.state(), tcp::State::Established);
        board.drops();
    }
}

/// A script panics without the filter; with it, it ends well.
fn both(script: impl Fn(&mut Board) -> bool) {
    assert!(script(&mut Board::new(true, 1)), "it does not end well with the filter");
    let bare = catch_unwind(AssertUnwindSafe(|| script(&mut Board::new(false, 1))));
    assert!(bare.is_err(), "smoltcp does not panic at this any more");
}

/// `BOWLINE_FRAMES=<count>` tries more, `BOWLINE_SEED=<seed>` the same again.
#[test]
fn hostile_frames_find_nothing_else() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let frames = number("BOWLINE_FRAMES").unwrap_or(60_000);
    let seed = number("BOWLINE_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("BOWLINE_SEED={seed} does the same again");
    let mut random = Rng::with_seed(seed);
    let (mut given, mut established, mut configured) = (0, 0, 0);
    while given < frames {
        let mut hostile = Hostile { board: Board::new(true, random.u64(..)), ..Hostile::default() };
        for _ in 0..random.u64(400..4_000) {
            hostile.turns(&mut random);
            given += 1;
        }
        established += hostile.established;
        configured += hostile.board.configured;
    }
    println!("{given} frames, {established} connections, {configured} configurations");
    assert!(established > frames / 2_000 && configured > frames / 500, "too little was reached");
}

/// The board's network, and the cable.
struct Board {
    interface: Interface,
    sockets: SocketSet<'static>,
    cable: Cable,
    dhcp: SocketHandle,
    tcp: Option<SocketHandle>,
    /// Milliseconds.
    now: i64,
    is_up: bool,
    router: Option<Ipv4Address>,
    /// How often it was given an address.
    configured: u64,
    /// Of the last connection.
    port: u16,
}

impl Default for Board {
    fn default() -> Self {
        Board::new(true, 1)
    }
}

impl Board {
    fn new(filtered: bool, seed: u64) -> Self {
        let mut cable = Cable { driver: FrameFilter::new(Queue::default()), filtered };
        let mut config = Config::new(Hardware::Ethernet(EthernetAddress(BOARD_MAC)));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut cable, Instant::ZERO);
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let mut board = Board {
            interface,
            sockets,
            cable,
            dhcp,
            tcp: None,
            now: 0,
            is_up: false,
            router: None,
            configured: 0,
            port: 1025 + (seed % 60_000) as u16,
        };
        board.polls();
        board
    }

    /// As `embassy-net` does it.
    fn polls(&mut self) {
        let now = Instant::from_millis(self.now);
        self.interface.poll(now, &mut self.cable, &mut self.sockets);
        self.is_configured();
        self.interface.poll_at(now, &self.sockets);
    }

    fn is_configured(&mut self) {
        let given = match self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(config)) => Some((config.address, config.router)),
        };
        self.is_up = given.is_some();
        self.configured += u64::from(self.is_up);
        self.router = given.and_then(|(_, router)| router);
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.extend(given.map(|(address, _)| IpCidr::Ipv4(address)));
        });
        let routes = self.interface.routes_mut();
        match self.router {
            Some(router) => {
                routes.add_default_ipv4_route(router).expect("room for one");
            }
            None => {
                routes.remove_default_ipv4_route();
            }
        }
    }

    /// Waits for a connection, as a server does.
    fn listens(&mut self, port: u16) {
        let buffer = || tcp::SocketBuffer::new(vec![0; STREAM]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(port).expect("a port");
        self.port = port;
        self.tcp = Some(self.sockets.add(socket));
    }

    /// The number of the SYN that goes out when the hardware address is known: the same board, in another run.
    fn asks_before_it_sends(&self) -> u32 {
        let mut other = Board::new(false, 1);
        other.is_given(SERVER, [255, 255, 255, 0], Some(SERVER), &[]);
        other.opens();
        other.hears(&arp(2, SERVER, BOARD));
        other.waits(2_000);
        other.last_sent().seq
    }

    fn waits(&mut self, millis: i64) {
        self.now += millis;
        self.polls();
    }

    fn hears(&mut self, frame: &[u8]) {
        self.queue().come.push_back(frame.to_vec());
        self.polls();
    }

    /// The server of DHCP at `server` gives it an address, with more options.
    fn is_given(&mut self, server: [u8; 4], mask: [u8; 4], router: Option<[u8; 4]>, more: &[u8]) {
        let transaction = self.queue().sent.iter().rev().find_map(|frame| transaction(frame)).expect("a request");
        for kind in [2, 5] {
            let mut options = vec![53, 1, kind, 54, 4, 10, 0, 2, 2, 1, 4];
            options.extend(mask);
            options.extend(router.iter().flat_map(|router| [&[3, 4][..], &router[..]].concat()));
            options.extend(more);
            let packet = udp(server, [255; 4], 67, 68, &dhcp(transaction, BOARD, &options));
            self.hears(&ethernet(&ipv4(server, [255; 4], 17, &packet)));
        }
    }

    /// Begins a connection to the server.
    fn opens(&mut self) {
        let buffer = || tcp::SocketBuffer::new(vec![0; STREAM]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        self.port = self.port.checked_add(1).unwrap_or(1025);
        let server = (Ipv4Address::from(SERVER), PORT);
        // Without an address there is none.
        if socket.connect(self.interface.context(), server, self.port).is_ok() {
            self.tcp = Some(self.sockets.add(socket));
        }
        self.polls();
    }

    /// Connects to the server, which has these options: what it says next, and what it has heard.
    fn connects(&mut self, options: &[u8]) -> (u32, u32) {
        self.is_given(SERVER, [255, 255, 255, 0], Some(SERVER), &[]);
        self.opens();
        self.hears(&arp(2, SERVER, BOARD));
        self.waits(2_000);
        let sent = self.last_sent();
        let answer =
            Tcp { seq: 7_000, ack: sent.seq + 1, flags: SYN | ACK, options: options.to_vec(), ..Tcp::default() };
        self.tcp(&answer);
        assert_eq!(self.state(), tcp::State::Established);
        // What it says of its window is out.
        self.waits(100);
        (7_001, sent.seq + 1)
    }

    fn last_sent(&mut self) -> Sent {
        self.queue().sent.iter().rev().find_map(|frame| sent(frame)).expect("a segment")
    }

    /// A segment from the server to the connection.
    fn tcp(&mut self, segment: &Tcp) {
        self.comes(segment);
        self.polls();
    }

    fn comes(&mut self, segment: &Tcp) {
        let segment = Tcp { to: self.port, ..segment.clone() };
        let frame = ethernet(&ipv4(SERVER, BOARD, 6, &segment.segment(SERVER, BOARD)));
        self.queue().come.push_back(frame);
    }

    fn queue(&mut self) -> &mut Queue {
        self.cable.driver.driver()
    }

    fn socket(&mut self) -> Option<&mut tcp::Socket<'static>> {
        self.tcp.map(|handle| self.sockets.get_mut(handle))
    }

    fn state(&mut self) -> tcp::State {
        self.socket().expect("a connection").state()
    }

    fn takes(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        assert_eq!(self.socket().expect("a connection").recv_slice(&mut bytes), Ok(count));
        self.polls();
    }

    /// The connection is dropped, as `embassy-net` drops one.
    fn drops(&mut self) {
        if let Some(handle) = self.tcp.take() {
            self.sockets.remove(handle);
        }
    }
}

/// What comes and goes, with the filter in between or without.
struct Cable {
    driver: FrameFilter<Queue>,
    filtered: bool,
}

#[derive(Default)]
struct Queue {
    come: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Come(Vec<u8>);
struct Goes<'a>(&'a mut Vec<Vec<u8>>);
/// What smoltcp is given to send with: the filter sees it.
struct Sends<'a>(&'a mut FrameFilter<Queue>);

impl embassy_net_driver::RxToken for Come {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

impl embassy_net_driver::TxToken for Goes<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let made = f(&mut frame);
        self.0.push(frame);
        assert!(self.0.len() < 20_000, "it sends without end");
        made
    }
}

impl Driver for Queue {
    type RxToken<'a> = Come;
    type TxToken<'a> = Goes<'a>;

    fn receive(&mut self, _: &mut Context<'_>) -> Option<(Come, Goes<'_>)> {
        self.come.pop_front().map(|frame| (Come(frame), Goes(&mut self.sent)))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Goes<'_>> {
        Some(Goes(&mut self.sent))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(BOARD_MAC)
    }
}

impl phy::RxToken for Come {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Sends<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let token = self.0.transmit(&mut context).expect("there is always room");
        embassy_net_driver::TxToken::consume(token, len, f)
    }
}

impl Device for Cable {
    type RxToken<'a> = Come;
    type TxToken<'a> = Sends<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Come, Sends<'_>)> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let frame = if self.filtered {
            self.driver.receive(&mut context).map(|(frame, _)| frame.consume(|frame| frame.to_vec()))
        } else {
            self.driver.driver().come.pop_front()
        };
        Some((Come(frame?), Sends(&mut self.driver)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sends<'_>> {
        Some(Sends(&mut self.driver))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// Somebody who sees all that the board sends.
#[derive(Default)]
struct Hostile {
    board: Board,
    transaction: u32,
    asked: Option<[u8; 4]>,
    /// What the board has sent last, and what it has not: its next byte, and the oldest that was not acknowledged.
    last: Sent,
    next: u32,
    oldest: u32,
    established: u64,
    offered: bool,
}

impl Hostile {
    /// Frames, and what the program does then.
    fn turns(&mut self, random: &mut Rng) {
        for _ in 0..if random.u8(..4) == 0 { random.u8(2..6) } else { 1 } {
            let frame = self.frame(random);
            self.board.queue().come.push_back(frame);
        }
        self.polls();
        let board = &mut self.board;
        let (takes, sends) = (random.usize(1..700), random.usize(1..700));
        if let Some(socket) = board.socket() {
            if random.u8(..3) == 0 {
                let _ = socket.recv_slice(&mut vec![0; takes]);
            }
            if random.u8(..4) == 0 {
                let _ = socket.send_slice(&vec![7; sends]);
            }
            if !socket.is_open() && random.u8(..3) == 0 || random.u16(..1_500) == 0 {
                board.drops();
                self.last = Sent::default();
            }
        } else if board.is_up && random.u8(..3) == 0 {
            self.last = Sent::default();
            board.opens();
        }
        self.board.now += match random.u8(..20) {
            0..12 => random.i64(0..12),
            12..17 => random.i64(0..300),
            17..19 => random.i64(0..5_000),
            _ => random.i64(0..130_000),
        };
        self.polls();
    }

    fn polls(&mut self) {
        let was = self.board.socket().map(|socket| socket.state());
        self.board.polls();
        let is = self.board.socket().map(|socket| socket.state());
        self.established += u64::from(was != is && is == Some(tcp::State::Established));
        for frame in std::mem::take(&mut self.board.queue().sent) {
            if let Some(transaction) = transaction(&frame) {
                self.transaction = transaction;
            } else if frame[12..14] == [8, 6] && frame[21] == 1 {
                self.asked = frame[38..42].try_into().ok();
            } else if let Some(sent) = sent(&frame).filter(|sent| sent.flags & RST == 0) {
                if sent.flags & (SYN | ACK) == SYN {
                    self.oldest = sent.seq;
                }
                self.next = sent.seq.wrapping_add(sent.len + u32::from(sent.flags & (SYN | FIN) != 0));
                self.last = sent;
            }
        }
    }

    fn frame(&mut self, random: &mut Rng) -> Vec<u8> {
        let connected = self.board.tcp.is_some();
        let mut frame = match random.u8(..100) {
            _ if self.asked.is_some() && random.u8(..3) == 0 => {
                arp(2, self.asked.take().expect("it was just there"), BOARD)
            }
            what if what < if connected { 80 } else { 25 } => self.of_tcp(random),
            0..88 => self.of_dhcp(random),
            88..92 => arp(random.choice([1, 2, 0, 3]).unwrap_or(1), address(random, SERVER), address(random, BOARD)),
            92..96 => {
                let (from, to) = (address(random, SERVER), address(random, BOARD));
                let bytes: Vec<u8> = (0..random.usize(..1_400)).map(|_| random.u8(..)).collect();
                let protocol = random.choice([1, 17, 2, 6, 255]).unwrap_or(1);
                let bytes = if protocol == 17 { udp(from, to, random.u16(..), random.u16(..), &bytes) } else { bytes };
                ethernet(&ipv4(from, to, protocol, &bytes))
            }
            _ => {
                let mut frame: Vec<u8> = (0..random.usize(..1_514)).map(|_| random.u8(..)).collect();
                if let Some(head) = frame.get_mut(..14) {
                    head[..6].copy_from_slice(&BOARD_MAC);
                    head[12..].copy_from_slice(&[8, if random.bool() { 0 } else { 6 }]);
                }
                frame
            }
        };
        if random.u8(..25) == 0 && frame.len() > 34 {
            let at = random.usize(12..frame.len());
            frame[at] ^= 1 << random.u8(..8);
            if random.u8(..3) == 0 {
                frame.truncate(random.usize(..=frame.len()));
            }
            if frame.len() >= 34 {
                mends_ipv4(&mut frame[14..34]);
            }
        }
        frame
    }

    fn of_tcp(&mut self, random: &mut Rng) -> Vec<u8> {
        let window = u32::from(self.last.window);
        let options = if random.u8(..4) == 0 { options(random) } else { Vec::new() };
        let is_asked = self.last.flags & (SYN | ACK) == SYN;
        let mut segment = if is_asked && random.u8(..8) > 0 {
            Tcp { seq: random.u32(..), ack: self.next, flags: SYN | ACK, options, ..Tcp::default() }
        } else {
            let flags = match random.u8(..24) {
                0..12 => ACK,
                12..16 => ACK | PSH,
                16..19 => ACK | FIN,
                19 => ACK | SYN,
                20 => SYN,
                21 => FIN,
                22 if random.u8(..4) == 0 => RST | ACK,
                _ => random.u8(..),
            };
            let seq = near(random, self.last.ack, window);
            let ack = match random.u8(..6) {
                0 => self.oldest,
                1 => self.oldest.wrapping_add(random.u32(..3_000)),
                2 => near(random, self.next, 1_024),
                _ => self.next,
            };
            self.oldest = if random.bool() { ack } else { self.oldest };
            let room = self.last.ack.wrapping_add(window).wrapping_sub(seq);
            let len = match random.u8(..8) {
                0..3 => 0,
                3 => random.u32(..10),
                4 => random.u32(..1_400),
                5 => room,
                6 => room.wrapping_add(random.u32(..3)).wrapping_sub(1),
                _ => random.u32(..300),
            };
            Tcp { seq, ack, flags, options, payload: vec![1; len.min(1_400) as usize], ..Tcp::default() }
        };
        segment.to = if random.u8(..80) == 0 { random.u16(..) } else { self.board.port };
        segment.window = random.choice([0, 1, 2, 100, 1_000, 1_024, 8_000, 65_535]).unwrap_or(0);
        let from = if random.u8(..60) == 0 { address(random, SERVER) } else { SERVER };
        let to = if random.u8(..60) == 0 { address(random, BOARD) } else { BOARD };
        let mut bytes = segment.segment(from, to);
        if random.u8(..40) == 0 {
            bytes[12] = random.u8(..);
            mends(from, to, 6, &mut bytes, 16);
        }
        ethernet(&ipv4(from, to, 6, &bytes))
    }

    fn of_dhcp(&mut self, random: &mut Rng) -> Vec<u8> {
        let is_right = random.u8(..3) > 0;
        let kind = match random.u8(..20) {
            0 => 6,
            1 => random.u8(..),
            _ if self.offered => 5,
            _ => 2,
        };
        self.offered = kind == 2;
        let mut options = vec![53, 1, kind, 54, 4];
        options.extend(if is_right { SERVER } else { address(random, SERVER) });
        let masks = [[255, 255, 255, 0], [255, 255, 255, 0], [255, 255, 255, 252], [255; 4], [0; 4], [255, 0, 255, 0]];
        options.extend([1, 4]);
        options.extend(masks[random.usize(..if is_right { 2 } else { masks.len() })]);
        if random.bool() {
            options.extend([3, 4]);
            options.extend(if is_right { SERVER } else { address(random, SERVER) });
        }
        for kind in [51, 58, 59].into_iter().filter(|_| random.u8(..3) == 0).collect::<Vec<u8>>() {
            options.extend([kind, 4]);
            options.extend(random.choice([0, 1, 60, 3_600, 0x7fff_ffff, u32::MAX]).unwrap_or(0).to_be_bytes());
        }
        if random.u8(..4) == 0 {
            options.push(random.u8(..));
            let len = random.u8(..20);
            options.push(if random.u8(..4) == 0 { random.u8(..) } else { len });
            options.extend((0..len).map(|_| random.u8(..)));
            // With an odd place.
            options.extend([3, 4]);
            options.extend(address(random, SERVER));
        }
        if random.u8(..10) == 0 {
            options.truncate(random.usize(..=options.len()));
        }
        let given = if is_right { BOARD } else { address(random, BOARD) };
        let transaction = if random.u8(..20) == 0 { random.u32(..) } else { self.transaction };
        let from = if random.u8(..3) == 0 { address(random, SERVER) } else { SERVER };
        ethernet(&ipv4(from, [255; 4], 17, &udp(from, [255; 4], 67, 68, &dhcp(transaction, given, &options))))
    }
}

/// An address that is the usual one more often than not.
fn address(random: &mut Rng, usual: [u8; 4]) -> [u8; 4] {
    match random.u8(..10) {
        0 => [0; 4],
        1 => [255; 4],
        2 => [224, 0, 0, 1],
        3 => [10, 0, 2, 255],
        4 => [8, 8, 8, 8],
        5 => random.u32(..).to_be_bytes(),
        6 => BOARD,
        _ => usual,
    }
}

/// A number of a byte that is the right one, or near to where something changes.
fn near(random: &mut Rng, base: u32, window: u32) -> u32 {
    let about = |random: &mut Rng, at: u32| at.wrapping_add(random.u32(..5)).wrapping_sub(2);
    match random.u8(..16) {
        0..8 => base,
        8 => base.wrapping_add(random.u32(..window + 3)),
        9 => base.wrapping_sub(random.u32(..1_500)),
        10 => about(random, base),
        11 => about(random, base.wrapping_add(window)),
        12 => about(random, base.wrapping_add(0x8000_0000)),
        13 => about(random, base.wrapping_add(window).wrapping_add(0x8000_0000)),
        14 => base.wrapping_add(0x8000_0000).wrapping_sub(random.u32(..1_500)),
        _ => random.u32(..),
    }
}

/// Options of TCP.
fn options(random: &mut Rng) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..random.u8(..4) {
        match random.u8(..7) {
            0 => options.extend([2, 4, 0, random.u8(..)]),
            1 => options.extend([3, 3, random.u8(..20)]),
            2 => options.extend([4, 2]),
            3 => options.extend([&[5, 10][..], &random.u64(..).to_be_bytes()].concat()),
            4 => options.extend([&[8, 10][..], &random.u64(..).to_be_bytes()].concat()),
            5 => options.push(1),
            _ => options.extend([random.u8(..), random.u8(..)]),
        }
    }
    options.truncate(40);
    options
}

/// A segment from the server.
#[derive(Debug, Clone)]
struct Tcp {
    to: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Default for Tcp {
    fn default() -> Self {
        Tcp { to: 0, seq: 0, ack: 0, flags: ACK, window: 8_000, options: Vec::new(), payload: Vec::new() }
    }
}

impl Tcp {
    fn segment(&self, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let mut bytes = [PORT.to_be_bytes(), self.to.to_be_bytes()].concat();
        bytes.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
        bytes.extend([((20 + options.len()) as u8 / 4) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        mends(from, to, 6, &mut bytes, 16);
        bytes
    }
}

/// What the board has sent.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    len: u32,
}

fn sent(frame: &[u8]) -> Option<Sent> {
    let segment = frame.get(34..).filter(|_| frame[12..14] == [8, 0] && frame[23] == 6)?;
    let number = |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let header = u32::from(segment[12] >> 4) * 4;
    let window = u16::from_be_bytes([segment[14], segment[15]]);
    Some(Sent { seq: number(4), ack: number(8), flags: segment[13], window, len: segment.len() as u32 - header })
}

/// Of a request of DHCP.
fn transaction(frame: &[u8]) -> Option<u32> {
    let is_dhcp = frame.len() > 50 && frame[12..14] == [8, 0] && frame[23] == 17;
    is_dhcp.then(|| u32::from_be_bytes([frame[46], frame[47], frame[48], frame[49]]))
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&BOARD_MAC[..], &PEER_MAC, &[8, 0], packet].concat()
}

fn arp(operation: u8, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&BOARD_MAC[..], &PEER_MAC, &[8, 6], &head, &PEER_MAC, &from, &BOARD_MAC, &to].concat()
}

fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend([from, to].concat());
    mends_ipv4(&mut packet);
    packet.extend(payload);
    packet
}

fn udp(from: [u8; 4], to: [u8; 4], source: u16, target: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = [source.to_be_bytes(), target.to_be_bytes()].concat();
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    mends(from, to, 17, &mut packet, 6);
    packet
}

fn dhcp(transaction: u32, given: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 1, 6, 0];
    packet.extend(transaction.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(given);
    packet.extend([0; 8]);
    packet.extend(BOARD_MAC);
    packet.resize(236, 0);
    packet.extend([0x63, 0x82, 0x53, 0x63]);
    packet.extend(options);
    packet.push(255);
    packet
}

/// Puts the checksum of a header right.
fn mends_ipv4(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&[header]);
    header[10..12].copy_from_slice(&sum);
}

/// Puts the checksum at a place right.
fn mends(from: [u8; 4], to: [u8; 4], protocol: u8, bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].copy_from_slice(&[0, 0]);
    let [high, low] = (bytes.len() as u16).to_be_bytes();
    let sum = checksum(&[&from, &to, &[0, protocol, high, low], bytes]);
    bytes[at..at + 2].copy_from_slice(&sum);
}

/// Of parts of which all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum + (sum >> 16)) as u16)).to_be_bytes()
}
