//! The line over I2C, on a bus that is simulated: transactions with damage, held lines, stretched clocks, pins that are stuck.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, pending};
use std::rc::Rc;
use std::time::Duration;

use bowline_coprocessor::i2c::{Bus, Controller, Peripheral, Request, Target, clocks};
use bowline_coprocessor::{Board, Coprocessor};
use bowline_embedded::Network;
use embassy_futures::join::join;
use embedded_hal::digital::{ErrorType as PinErrorType, InputPin, OutputPin};
use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};
use embedded_hal_async::digital::Wait;
use embedded_hal_async::i2c::I2c;
use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::line::{System, Wifi, beside, seed};
use crate::stream::goes_and_comes;

const ADDRESS: u8 = 0x2a;

/// The wires, and what is at the moment on them.
#[derive(Default)]
struct Wires {
    request: RefCell<Option<Transfer>>,
    answer: RefCell<Option<Vec<u8>>>,
    changed: Notify,
    random: RefCell<Rng>,
    /// One byte in so many has another bit; 0 for none.
    one_in: Cell<u32>,
    /// Each transaction takes so much longer.
    stretches: Cell<Duration>,
    /// The target holds the clock, until it is reset.
    holds_scl: Cell<bool>,
    /// The target holds the data, for so many clocks.
    holds_sda: Cell<u32>,
    /// Nobody is at the address.
    is_absent: Cell<bool>,
    transactions: Cell<u32>,
    frees: Cell<u32>,
    attention: Cell<bool>,
    stuck_attention: Cell<Option<bool>>,
    attention_changed: Notify,
    /// The pin that resets the target, and how often it was pulled.
    reset: Notify,
    resets: Cell<u32>,
}

enum Transfer {
    Writes(Vec<u8>),
    Reads,
}

impl Wires {
    fn suffer(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut random, one_in) = (self.random.borrow_mut(), self.one_in.get());
        let hit = |byte: &u8| if one_in > 0 && random.u32(..one_in) == 0 { byte ^ 1 << random.u32(..8) } else { *byte };
        bytes.iter().map(hit).collect()
    }

    async fn transfers(&self, transfer: Transfer) -> Result<Vec<u8>, ErrorKind> {
        self.transactions.set(self.transactions.get() + 1);
        if self.holds_scl.get() {
            pending::<()>().await;
        }
        if self.holds_sda.get() > 0 {
            return Err(ErrorKind::ArbitrationLoss);
        }
        if self.is_absent.get() {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        let stretch = self.stretches.get();
        if !stretch.is_zero() {
            sleep(stretch).await;
        }
        let _end = Ends(self);
        *self.answer.borrow_mut() = None;
        *self.request.borrow_mut() = Some(transfer);
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            if let Some(answer) = self.answer.take() {
                return Ok(answer);
            }
            changed.await;
        }
    }
}

/// A transaction that its controller has dropped is over for the target, too.
struct Ends<'w>(&'w Wires);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        *self.0.request.borrow_mut() = None;
    }
}

struct Left(Rc<Wires>);

impl ErrorType for Left {
    type Error = ErrorKind;
}

impl I2c for Left {
    async fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        assert_eq!(address, ADDRESS);
        for operation in operations {
            match operation {
                Operation::Write(bytes) => drop(self.0.transfers(Transfer::Writes(self.0.suffer(bytes))).await?),
                Operation::Read(bytes) => {
                    let answer = self.0.suffer(&self.0.transfers(Transfer::Reads).await?);
                    bytes.copy_from_slice(&answer);
                }
            }
        }
        Ok(())
    }
}

impl Bus for Left {
    /// Nine clocks: who holds the data for longer goes on holding it.
    async fn free(&mut self) {
        self.0.frees.set(self.0.frees.get() + 1);
        self.0.holds_sda.set(self.0.holds_sda.get().saturating_sub(9));
    }
}

struct Right(Rc<Wires>);

impl Peripheral for Right {
    type Error = Infallible;

    async fn listen(&mut self, bytes: &mut [u8]) -> Result<Request, Infallible> {
        let wires = Rc::clone(&self.0);
        loop {
            let changed = wires.changed.notified();
            let request = wires.request.take();
            match request {
                Some(Transfer::Writes(written)) => {
                    bytes[..written.len()].copy_from_slice(&written);
                    self.answer(&[]).await?;
                    return Ok(Request::Written(written.len()));
                }
                Some(Transfer::Reads) => return Ok(Request::Read),
                None => changed.await,
            }
        }
    }

    async fn answer(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        *self.0.answer.borrow_mut() = Some(bytes.to_vec());
        self.0.changed.notify_waiters();
        Ok(())
    }
}

/// The target's pin, at both ends.
struct Attention(Rc<Wires>);

impl PinErrorType for Attention {
    type Error = Infallible;
}

impl OutputPin for Attention {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.attention.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.attention.set(true);
        self.0.attention_changed.notify_waiters();
        Ok(())
    }
}

impl Wait for Attention {
    async fn wait_for_high(&mut self) -> Result<(), Infallible> {
        loop {
            let changed = self.0.attention_changed.notified();
            if self.0.stuck_attention.get().unwrap_or(self.0.attention.get()) {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn wait_for_low(&mut self) -> Result<(), Infallible> {
        unreachable!("nobody waits for that")
    }

    async fn wait_for_rising_edge(&mut self) -> Result<(), Infallible> {
        unreachable!("nobody waits for that")
    }

    async fn wait_for_falling_edge(&mut self) -> Result<(), Infallible> {
        unreachable!("nobody waits for that")
    }

    async fn wait_for_any_edge(&mut self) -> Result<(), Infallible> {
        unreachable!("nobody waits for that")
    }
}

/// The pin that resets the target.
struct Reset(Rc<Wires>);

impl PinErrorType for Reset {
    type Error = Infallible;
}

impl OutputPin for Reset {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.resets.set(self.0.resets.get() + 1);
        self.0.holds_scl.set(false);
        self.0.holds_sda.set(0);
        self.0.reset.notify_one();
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A co-processor at the bus, which begins anew when it is reset.
async fn coprocessor(wires: &Rc<Wires>, wifi: &Wifi) -> ! {
    for boot in 1.. {
        let target = Target::<_, 512>::new(Attention(Rc::clone(wires)));
        let coprocessor = Coprocessor::<512>::new();
        let (rx, tx) = target.split();
        let mut access = wifi;
        let sides = join(coprocessor.run(rx, tx, &System, &mut access, boot), target.run(Right(Rc::clone(wires))));
        tokio::select! {
            biased;
            () = wires.reset.notified() => {}
            _ = sides => unreachable!("neither returns"),
        }
    }
    unreachable!("nobody resets so often")
}

/// Runs a script on a board, with a co-processor at the other end of the bus.
async fn on_a_bus(wires: &Rc<Wires>, script: impl AsyncFnOnce(&Board<'_, 256>)) {
    let wifi = Wifi::default();
    let board = Board::<256>::new("net", "word").unwrap();
    let mut controller = Controller::new(Left(Rc::clone(wires)), ADDRESS);
    let (rx, tx) = controller.split(Attention(Rc::clone(wires)));
    let sides = join(board.run(rx, tx, Reset(Rc::clone(wires)), 1), coprocessor(wires, &wifi));
    beside(sides, script(&board)).await;
}

/// Bytes go to an echo and come back, while something else happens.
async fn echoes(board: &Board<'_, 256>, random: &mut Rng, len: usize, happens: impl Future<Output = Infallible>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    tokio::select! {
        () = goes_and_comes(board, &listener, len, random) => {}
        _ = happens => {}
    }
}

#[tokio::test]
async fn bytes_come_as_they_went_over_i2c() {
    let (wires, mut random) = (Rc::new(Wires::default()), Rng::with_seed(seed()));
    on_a_bus(&wires, async |mut board: &Board<'_, 256>| {
        board.join().await.unwrap();
        echoes(board, &mut random, 20_000, pending()).await;
        assert_eq!((board.report().damaged, wires.resets.get(), wires.frees.get()), (0, 0, 0));
    })
    .await;
}

/// Bits that change, also in how much there is to read; clocks that are stretched beyond what is waited for; and data lines that
/// are held until somebody clocks.
#[tokio::test]
async fn a_bad_bus_is_slower_and_nothing_else() {
    let seed = seed();
    let mut random = Rng::with_seed(seed);
    let wires = Rc::new(Wires { random: RefCell::new(random.fork()), ..Wires::default() });
    on_a_bus(&wires, async |mut board: &Board<'_, 256>| {
        board.join().await.unwrap();
        wires.one_in.set(600);
        let mut fates = random.fork();
        let happens = async {
            loop {
                sleep(Duration::from_millis(fates.u64(20..120))).await;
                if fates.bool() {
                    wires.holds_sda.set(fates.u32(1..9));
                } else {
                    wires.stretches.set(Duration::from_millis(fates.u64(30..80)));
                    sleep(Duration::from_millis(fates.u64(..200))).await;
                    wires.stretches.set(Duration::ZERO);
                }
            }
        };
        echoes(board, &mut random, 6_000, happens).await;
        assert!(board.report().damaged > 0 && wires.frees.get() > 0);
        assert_eq!(wires.resets.get(), 0);
    })
    .await;
}

/// Nothing but a reset frees it. Nobody waits for the bus meanwhile.
#[tokio::test]
async fn r47_a_target_that_holds_the_bus_for_good_is_reset() {
    let (wires, mut random) = (Rc::new(Wires::default()), Rng::with_seed(seed()));
    on_a_bus(&wires, async |mut board: &Board<'_, 256>| {
        for (holds_scl, holds_sda) in [(true, 0), (false, u32::MAX)] {
            board.join().await.unwrap();
            wires.resets.set(0);
            wires.holds_scl.set(holds_scl);
            wires.holds_sda.set(holds_sda);
            wires.frees.set(0);
            while board.is_up() {
                sleep(Duration::from_millis(10)).await;
            }
            assert!(wires.frees.get() > 0, "it was tried");
            board.join().await.unwrap();
            echoes(board, &mut random, 1_000, pending()).await;
            assert_eq!(wires.resets.get(), 1);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_is_stuck_makes_it_slow_and_nobody_turns_round_and_round() {
    bowline_embedded_host::begin();
    for stuck in [true, false] {
        let wires = Rc::new(Wires::default());
        wires.stuck_attention.set(Some(stuck));
        wires.stretches.set(Duration::from_millis(1));
        on_a_bus(&wires, async |mut board: &Board<'_, 256>| {
            board.join().await.unwrap();
            wires.transactions.set(0);
            sleep(Duration::from_secs(10)).await;
            assert!(board.report().is_there && wires.resets.get() == 0);
            assert!(wires.transactions.get() < 1_300, "{}", wires.transactions.get());
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_coprocessor_that_is_not_there_is_asked_now_and_then() {
    bowline_embedded_host::begin();
    let wires = Rc::new(Wires::default());
    wires.is_absent.set(true);
    on_a_bus(&wires, async |board: &Board<'_, 256>| {
        sleep(Duration::from_secs(10)).await;
        assert!(!board.report().is_there && wires.resets.get() > 0);
        assert_eq!(wires.frees.get(), 0, "nobody holds the bus");
        assert!(wires.transactions.get() < 1_300, "{}", wires.transactions.get());
    })
    .await;
}

/// Two lines, of which a target holds one until it has seen so many clocks.
struct Held {
    clocks: Cell<u32>,
    scl: Cell<bool>,
    sda: Cell<bool>,
    stops: Cell<u32>,
}

struct Scl<'h>(&'h Held);

struct Sda<'h>(&'h Held);

impl PinErrorType for Scl<'_> {
    type Error = Infallible;
}

impl PinErrorType for Sda<'_> {
    type Error = Infallible;
}

impl OutputPin for Scl<'_> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        if self.0.scl.replace(false) {
            self.0.clocks.set(self.0.clocks.get().saturating_sub(1));
        }
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.scl.set(true);
        Ok(())
    }
}

impl OutputPin for Sda<'_> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.sda.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        if !self.0.sda.replace(true) && self.0.scl.get() && self.0.clocks.get() == 0 {
            self.0.stops.set(self.0.stops.get() + 1);
        }
        Ok(())
    }
}

impl InputPin for Sda<'_> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.sda.get() && self.0.clocks.get() == 0)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|is_high| !is_high)
    }
}

#[tokio::test(start_paused = true)]
async fn nine_clocks_free_a_bus_that_is_held_in_the_middle_of_a_byte() {
    bowline_embedded_host::begin();
    for (needs, is_free) in [(0, true), (1, true), (9, true), (11, false)] {
        let held = Held { clocks: Cell::new(needs), scl: Cell::new(true), sda: Cell::new(true), stops: Cell::new(0) };
        assert_eq!(clocks(&mut Scl(&held), &mut Sda(&held)).await, is_free, "{needs}");
        assert_eq!(held.stops.get(), u32::from(is_free));
        assert!(held.scl.get() && held.sda.get(), "both are let go");
    }
}
