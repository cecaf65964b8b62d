//! A board's flash: torn by a power cut, failing, or as it was some time ago.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_flash::sim::{Fault, Nor, Tear};
use bowline_store_vfs::Files;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use fastrand::Rng;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::medium::{Mood, Switch};

const WORD: usize = 4;
const PAGE: usize = 1024;
const PAGES: usize = 16;

/// The name of its content among files.
const IMAGE: &str = "flash";

type Chip = Nor<WORD, WORD, PAGE>;

/// The flash of one life of a board.
pub(crate) struct SimFlash(Arc<Shared>);

struct Shared {
    chip: Mutex<Chip>,
    switch: Switch,
}

impl Shared {
    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.chip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimFlash {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chip = Chip::new(PAGES);
        chip.seed(seed);
        Self::of(chip)
    }

    fn of(chip: Chip) -> Self {
        SimFlash(Arc::new(Shared { chip: Mutex::new(chip), switch: Switch::default() }))
    }

    pub(crate) fn with(files: &Files) -> Self {
        Self::of(files.get(IMAGE).map_or_else(|| Chip::new(PAGES), |image| Chip::of_image(image)))
    }

    pub(crate) fn switch(&self) -> &Switch {
        &self.0.switch
    }

    /// A program starts: its driver of the flash. `ends` is told when the power has gone in the middle of a write.
    pub(crate) fn starts(&self, ends: Arc<Notify>, mut random: Rng) -> Driver {
        let tear = [Tear::Clean, Tear::Half, Tear::Unstable, Tear::UnstableCall][random.usize(..4)];
        self.0.chip().tears(tear);
        Driver { shared: Arc::clone(&self.0), ends, random }
    }

    /// What the next program finds. The one before is gone.
    pub(crate) fn after(self, random: &mut Rng) -> Self {
        let mut chip = self.0.chip().clone();
        chip.seed(random.u64(..));
        chip.power_on();
        Self::of(chip)
    }

    pub(crate) fn backup(&self) -> Files {
        Files::from([(IMAGE.to_owned(), self.0.chip().image().to_vec())])
    }
}

/// What a board's program has of its flash. Operations take a while; what is begun is done, whether somebody waits
/// for it or not, unless the power goes.
#[derive(Clone)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    ends: Arc<Notify>,
    random: Rng,
}

impl Driver {
    /// Writes or erases `len` bytes.
    async fn changes(&mut self, len: usize, change: impl FnOnce(&mut Chip) -> Result<(), Fault>) -> Result<(), Fault> {
        let Shared { switch, .. } = &*self.shared;
        if self.random.bool() {
            tokio::time::sleep(Duration::from_millis(self.random.u64(..3))).await;
        }
        if switch.is(Mood::Frozen) {
            return std::future::pending().await;
        }
        if switch.burns_down() {
            {
                let mut chip = self.shared.chip();
                chip.cuts_after(self.random.u64(..len.max(1) as u64));
                let _ = change(&mut chip);
            }
            self.ends.notify_one();
            return std::future::pending().await;
        }
        if switch.is(Mood::Broken) || switch.is(Mood::NoSync) {
            return Err(Fault::Failed);
        }
        change(&mut self.shared.chip())
    }
}

impl ErrorType for Driver {
    type Error = Fault;
}

impl ReadNorFlash for Driver {
    const READ_SIZE: usize = WORD;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        at_once(self.shared.chip().read(offset, bytes))
    }

    fn capacity(&self) -> usize {
        PAGES * PAGE
    }
}

impl NorFlash for Driver {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.changes(bytes.len(), |chip| at_once(chip.write(offset, bytes))).await
    }

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.changes((to - from) as usize, |chip| at_once(chip.erase(from, to))).await
    }
}

/// The chip waits for nothing where it was not told to.
fn at_once(operation: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    operation.now_or_never().unwrap_or(Err(Fault::Failed))
}
