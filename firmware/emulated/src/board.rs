//! The device's client on a board: encrypted, its outbox on flash.

use bowline_embedded::{Client, Config, Provision, Resources, Slot, Supervision, buffer_for, inbox_for};
use bowline_flash::Clock;
use embassy_time::Duration;
use static_cell::ConstStaticCell;

use crate::flash::Flash;
use crate::host::{self, File, say};
use crate::settings::Settings;

/// Most bytes of a payload.
pub const PAYLOAD: usize = 256;
/// Messages that may wait to be sent; where their payloads are there is room for about 100.
const WAITING: usize = 64;
/// Messages that may have come and not be taken.
const COME: usize = 4;

/// The outbox of these boards.
pub type Outbox = bowline_flash::Outbox<'static, Flash>;
/// What keeps the links of these boards.
pub type Runner = bowline_embedded::Runner<'static, Outbox, fn(&mut [u8])>;
type Memory = Resources<Outbox, COME, { inbox_for(COME, COME * PAYLOAD) }, { buffer_for(PAYLOAD) }>;

/// What the board was told.
pub fn settings() -> Settings {
    let mut buffer = [0; 256];
    let words = host::arguments(&mut buffer).expect("the host gives arguments, 255 bytes at most");
    match Settings::parse(words) {
        Ok(Settings { deep: true, .. }) => deeper(u32::MAX),
        Ok(settings) => settings,
        Err(word) => panic!("expected server=ADDRESS:PORT and what else README.md names, got {word}"),
    }
}

/// Goes so deep that no stack is enough.
#[expect(unconditional_recursion, reason = "it ends where the stack does")]
fn deeper(more: u32) -> ! {
    let bytes = core::hint::black_box([more; 64]);
    let _ = core::hint::black_box(bytes[0]);
    deeper(more - 1)
}

/// The client with the outbox that the last life has left. To be called once.
pub async fn client(settings: &Settings) -> (Client<'static, Outbox>, Runner) {
    static SLOTS: ConstStaticCell<[Slot; WAITING]> = ConstStaticCell::new([Slot::EMPTY; WAITING]);
    let flash = Flash::powers_up().expect("flash.bin is an image of 32 KiB, or is not there");
    let opened = Outbox::open(flash, SLOTS.take(), PAYLOAD, Clock::default()).await;
    let (outbox, report) = opened.expect("flash.bin holds an outbox");
    say(format_args!("outbox: waiting {}, lost {}, epoch {}", report.waiting, report.lost, outbox.epoch()));

    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let supervision = Supervision { stable: Duration::MIN, ..Supervision::DEFAULT };
    let config = Config { supervision, ..Config::provisioned(&provision(), settings.server).timeout(settings.timeout) };
    let random = host::random as fn(&mut [u8]);
    bowline_embedded::new(MEMORY.take(), outbox, config, random).expect("sizes that fit")
}

/// Who the board is: the provisioning line in the file `board.key`.
fn provision() -> Provision<'static> {
    static LINE: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    let buffer = LINE.take();
    let len = File::reads(c"board.key").and_then(|mut file| file.read(buffer));
    let len = len.expect("board.key is there: `bowline key new board --out board.key` makes it");
    let line = core::str::from_utf8(&buffer[..len]).expect("a provisioning line is text");
    match Provision::parse(line) {
        Ok(provision) => provision,
        Err(error) => panic!("board.key: {error}"),
    }
}
