//! The Stellaris Ethernet controller of the LM3S6965, as a driver of embassy-net.
//!
//! Frames go through two queues of 2 KiB in the controller, by one register, a word at a time. What is in front of a
//! frame there and behind it is told at [`Received::consume`] and [`Sending::consume`]. The controller's interrupt wakes
//! the network's task; nothing here waits.
//!
//! Source: chapter "Ethernet Controller" of the LM3S6965 data sheet; and, where the emulator does less, QEMU's model,
//! which has no PHY: a cable that is pulled out shows in nothing but silence. So the link counts as always up.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::waitqueue::GenericAtomicWaker;

use registers::{DATA, IA0, IA1, IACK, IM, NP, RCTL, RIS, TCTL, TR};

/// The number of the controller's interrupt.
pub(crate) const INTERRUPT: u8 = 42;

/// Interrupts: bits of `RIS`, `IACK` and `IM`.
mod interrupt {
    /// A frame has come.
    pub(super) const RXINT: u32 = 1 << 0;
    /// The queue of frames that go out is empty.
    pub(super) const TXEMP: u32 = 1 << 2;
    /// The queue of frames that have come has overflowed.
    pub(super) const FOV: u32 = 1 << 3;
    /// A frame has come damaged.
    pub(super) const RXER: u32 = 1 << 4;
    pub(super) const ALL: u32 = 0x7f;
}

/// Bits of `RCTL`.
mod receiving {
    pub(super) const RXEN: u32 = 1 << 0;
    /// Damaged frames are thrown away.
    pub(super) const BADCRC: u32 = 1 << 3;
    /// Empties the queue.
    pub(super) const RSTFIFO: u32 = 1 << 4;
}

/// Bits of `TCTL`.
mod transmitting {
    pub(super) const TXEN: u32 = 1 << 0;
    /// Short frames are filled up.
    pub(super) const PADEN: u32 = 1 << 1;
    /// The checksum is put behind each frame.
    pub(super) const CRC: u32 = 1 << 2;
    pub(super) const DUPLEX: u32 = 1 << 4;
}

/// Bits of `NP`: the number of frames that have come.
const NPR: u32 = 0x3f;
/// The bit of `TR` that sends the frame, and is set while it goes out.
const NEWTX: u32 = 1;

/// Bytes of an Ethernet header.
const HEADER: usize = 14;
/// Bytes of the longest frame, without its checksum.
const LONGEST: usize = HEADER + 1_500;
/// Bytes of a frame's length, in front of it in both queues.
const LENGTH: usize = 2;
/// Bytes of a frame's checksum.
const CHECKSUM: usize = 4;

/// Whom the interrupt wakes.
static WAKER: GenericAtomicWaker<CriticalSectionRawMutex> = GenericAtomicWaker::new(CriticalSectionRawMutex::new());

/// The controller. There is one, so there must be one of these.
pub(crate) struct Ethernet {
    received: [u8; LONGEST],
    sending: [u8; LONGEST],
    address: [u8; 6],
}

impl Ethernet {
    /// The controller, switched on; its interrupt is for the caller to let through.
    pub(crate) fn new() -> Self {
        IM.write(0);
        RCTL.write(receiving::RSTFIFO);
        IACK.write(interrupt::ALL);
        let ([a, b, c, d], [e, f, ..]) = (IA0.read().to_le_bytes(), IA1.read().to_le_bytes());
        TCTL.write(transmitting::TXEN | transmitting::PADEN | transmitting::CRC | transmitting::DUPLEX);
        RCTL.write(receiving::RXEN | receiving::BADCRC);
        Ethernet { received: [0; LONGEST], sending: [0; LONGEST], address: [a, b, c, d, e, f] }
    }
}

/// To be called at the interrupt. It does not come again before the driver has looked, and asks for it.
pub(crate) fn interrupted() {
    IM.write(0);
    WAKER.wake();
}

/// Asks for these interrupts, beside those that were asked for.
fn listens(interrupts: u32) {
    IM.change(interrupts, 0);
}

impl Driver for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Sending<'_>)> {
        WAKER.register(context.waker());
        let seen = RIS.read();
        if seen & (interrupt::FOV | interrupt::RXER) != 0 {
            // Where in the queue a frame begins is not certain any more.
            RCTL.write(receiving::RSTFIFO);
            RCTL.write(receiving::RXEN | receiving::BADCRC);
        }
        // Taken back before the queue is looked at: what comes behind the look sets it again.
        IACK.write(seen & !interrupt::TXEMP);
        let waits = TR.read() & NEWTX != 0;
        if NP.read() & NPR > 0 && !waits {
            return Some((Received(&mut self.received), Sending(&mut self.sending)));
        }
        listens(interrupt::RXINT | interrupt::FOV | interrupt::RXER | if waits { interrupt::TXEMP } else { 0 });
        None
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Sending<'_>> {
        WAKER.register(context.waker());
        IACK.write(interrupt::TXEMP);
        if TR.read() & NEWTX == 0 {
            return Some(Sending(&mut self.sending));
        }
        listens(interrupt::TXEMP);
        None
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = LONGEST;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A frame that has come and is in the controller's queue.
pub(crate) struct Received<'a>(&'a mut [u8; LONGEST]);

impl RxToken for Received<'_> {
    /// In the queue: the bytes of it all, the frame, its checksum; then it is filled up to a whole word.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        let [low, high, first, second] = DATA.read().to_le_bytes();
        let whole = usize::from(u16::from_le_bytes([low, high]));
        let frame = whole.saturating_sub(LENGTH + CHECKSUM);
        let mut put = |at: usize, bytes: &[u8]| {
            for (place, byte) in self.0.iter_mut().skip(at).zip(bytes) {
                *place = *byte;
            }
        };
        put(0, &[first, second]);
        for word in 1..whole.div_ceil(4) {
            put(word * 4 - LENGTH, &DATA.read().to_le_bytes());
        }
        // One that is too long is cut off; its checksums tell.
        f(&mut self.0[..frame.min(LONGEST)])
    }
}

/// Room for a frame in the controller's queue.
pub(crate) struct Sending<'a>(&'a mut [u8; LONGEST]);

impl TxToken for Sending<'_> {
    /// In the queue: the bytes behind the header, and the frame; then it is filled up to a whole word.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = &mut self.0[..len];
        let result = f(frame);
        let [low, high] = (len.saturating_sub(HEADER) as u16).to_le_bytes();
        let (start, rest) = frame.split_at(LENGTH.min(len));
        DATA.write(u32::from_le_bytes([low, high, byte(start, 0), byte(start, 1)]));
        for word in rest.chunks(4) {
            DATA.write(u32::from_le_bytes([byte(word, 0), byte(word, 1), byte(word, 2), byte(word, 3)]));
        }
        TR.write(NEWTX);
        result
    }
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The controller's registers, each a word.
mod registers {
    use bowline_emulated::register::Register;

    /// What has happened. Read only.
    pub(super) const RIS: Register = register(0x00);
    /// Takes back what has happened. Write only.
    pub(super) const IACK: Register = register(0x00);
    /// What interrupts.
    pub(super) const IM: Register = register(0x04);
    /// How frames are received.
    pub(super) const RCTL: Register = register(0x08);
    /// How frames are sent.
    pub(super) const TCTL: Register = register(0x0c);
    /// The next word: read, of the frame that has come first; written, of the one that is to go out.
    pub(super) const DATA: Register = register(0x10);
    /// The first four bytes of the hardware address.
    pub(super) const IA0: Register = register(0x14);
    /// The last two.
    pub(super) const IA1: Register = register(0x18);
    /// Frames that have come.
    pub(super) const NP: Register = register(0x34);
    /// Sends.
    pub(super) const TR: Register = register(0x38);

    #[expect(unsafe_code, reason = "the compiler knows nothing of registers")]
    const fn register(offset: usize) -> Register {
        // SAFETY: a word of the controller; what it does with what is written stays in it.
        unsafe { Register::at(0x4004_8000 + offset) }
    }
}
