//! A NOR flash in memory that behaves as badly as a real one may: for tests, with the feature `sim`.
//!
//! - Bits go from 1 to 0 by writing and back by erasing whole pages only. A word is written once between two
//!   erases, as [`NorFlash`] demands; a second write is the caller's mistake, and panics. On a word that a
//!   power cut or a failure has left half programmed it fails: that one may look as if it were erased.
//! - The power can be cut before any byte of any write or erase ([`Nor::cuts_after`]). The word (or the whole
//!   call, see [`Tear`]) that is under way is half programmed; the page, half erased.
//! - Half-programmed bits can be unstable: until the page is erased they read as the old ones, as the new ones
//!   or at random, differently in each life or in each read.
//! - Bits rot ([`Nor::rots`]), pages wear out ([`Nor::breaks`]), single operations fail ([`Nor::fails_after`]).
//! - With [`Nor::yields`], every write and erase is pending once before each word, so that futures can be
//!   dropped in the middle.
//! - Everything random comes from a seed.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// Why an operation of the simulated flash failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power is off.
    Off,
    /// The operation failed, and was not or half done.
    Failed,
    /// Not aligned, or out of bounds.
    Misuse(NorFlashErrorKind),
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Fault::Misuse(kind) => *kind,
            Fault::Off | Fault::Failed => NorFlashErrorKind::Other,
        }
    }
}

/// What a power cut leaves of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// What was done is done, the rest is not.
    Clean,
    /// The word under way, or the rest of the page under erase, has random bits of the old and the new.
    Half,
    /// As `Half`, and those bits read differently each time until the page is erased.
    Unstable,
    /// As `Unstable`, for all bytes of the write call: a chip programs them together.
    UnstableCall,
}

/// What was done to a word since its page was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Blank,
    Written,
    /// Half programmed or half erased.
    Torn,
}

/// How unstable bits read in this life.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Old,
    New,
    Random,
}

/// What was done to a flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls of `read`.
    pub reads: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Calls of `write`.
    pub writes: u64,
    /// Bytes of them.
    pub bytes_written: u64,
    /// Pages erased, or begun to be.
    pub erases: u64,
}

/// A flash with pages of `PAGE` bytes, words of `WRITE` bytes to write and `READ` bytes to read.
#[derive(Debug, Clone)]
pub struct Nor<const READ: usize, const WRITE: usize, const PAGE: usize> {
    cells: Vec<u8>,
    words: Vec<Word>,
    /// Bytes that read as they like: as they were, as they were to be, or in between.
    unstable: BTreeMap<usize, (u8, u8)>,
    mood: Mood,
    erased: Vec<u32>,
    broken: Vec<bool>,
    counts: Counts,
    random: u64,
    tear: Tear,
    /// Bytes until the power goes.
    cut: Option<u64>,
    /// Writes and erases until one fails.
    failure: Option<u64>,
    off: bool,
    yields: bool,
}

impl<const READ: usize, const WRITE: usize, const PAGE: usize> Nor<READ, WRITE, PAGE> {
    /// A new flash of so many pages: all bits set.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Nor {
            cells: vec![0xff; pages * PAGE],
            words: vec![Word::Blank; pages * PAGE / WRITE],
            unstable: BTreeMap::new(),
            mood: Mood::Random,
            erased: vec![0; pages],
            broken: vec![false; pages],
            counts: Counts::default(),
            random: 0,
            tear: Tear::Clean,
            cut: None,
            failure: None,
            off: false,
            yields: false,
        }
    }

    /// A flash with this content, such as a golden image.
    #[must_use]
    pub fn of_image(image: &[u8]) -> Self {
        let mut nor = Nor::new(image.len() / PAGE);
        nor.cells.copy_from_slice(image);
        for (word, bytes) in nor.words.iter_mut().zip(image.chunks_exact(WRITE)) {
            if bytes.iter().any(|&byte| byte != 0xff) {
                *word = Word::Written;
            }
        }
        nor
    }

    /// What is on it. Unstable bits as they were left.
    #[must_use]
    pub fn image(&self) -> &[u8] {
        &self.cells
    }

    /// How often each page was erased.
    #[must_use]
    pub fn erased(&self) -> &[u32] {
        &self.erased
    }

    /// What was done to it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Where its randomness comes from.
    pub fn seed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// What a power cut leaves.
    pub fn tears(&mut self, tear: Tear) {
        self.tear = tear;
    }

    /// The power goes after so many more bytes written or erased: with 0, in the first one.
    pub fn cuts_after(&mut self, bytes: u64) {
        self.cut = Some(bytes);
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// The power is back, and stays.
    pub fn power_on(&mut self) {
        (self.off, self.cut) = (false, None);
        self.mood = self.next_mood();
    }

    fn next_mood(&mut self) -> Mood {
        [Mood::Old, Mood::New, Mood::Random][(self.next_random() % 3) as usize]
    }

    /// The write or erase after so many more fails, half done.
    pub fn fails_after(&mut self, operations: u64) {
        self.failure = Some(operations);
    }

    /// Nothing can be written to this page any more.
    pub fn breaks(&mut self, page: usize) {
        self.broken[page] = true;
    }

    /// A bit flips.
    pub fn rots(&mut self, address: usize, bit: u8) {
        self.cells[address] ^= 1 << (bit % 8);
    }

    /// Writes and erases are pending once before each word.
    pub fn yields(&mut self, yields: bool) {
        self.yields = yields;
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn check(&self, offset: u32, len: usize, unit: usize) -> Result<usize, Fault> {
        let offset = offset as usize;
        if self.off {
            return Err(Fault::Off);
        }
        if offset.checked_add(len).is_none_or(|end| end > self.cells.len()) {
            return Err(Fault::Misuse(NorFlashErrorKind::OutOfBounds));
        }
        if !offset.is_multiple_of(unit) || !len.is_multiple_of(unit) {
            return Err(Fault::Misuse(NorFlashErrorKind::NotAligned));
        }
        Ok(offset)
    }

    /// One byte more: false if the power goes in it.
    fn spends(&mut self) -> bool {
        match &mut self.cut {
            Some(0) => {
                self.off = true;
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn fails(&mut self, page: usize) -> bool {
        let now = self.failure == Some(0);
        self.failure = self.failure.and_then(|left| left.checked_sub(1));
        now || self.broken[page]
    }

    /// What is between `old` and `new`, at random.
    fn mixes(&mut self, at: usize, old: u8, new: u8) {
        let random = self.next_random() as u8;
        self.cells[at] = (old & !random) | (new & random);
        if matches!(self.tear, Tear::Unstable | Tear::UnstableCall) && old != new {
            self.unstable.insert(at, (old, new));
        }
    }

    fn tears_write(&mut self, from: usize, bytes: &[u8], done: usize) {
        let word = done / WRITE * WRITE;
        self.words[(from + done) / WRITE] = Word::Torn;
        let torn = match self.tear {
            Tear::Clean => return,
            Tear::Half | Tear::Unstable => word..word + WRITE,
            Tear::UnstableCall => 0..bytes.len(),
        };
        for at in torn {
            self.mixes(from + at, 0xff, bytes[at]);
            self.words[(from + at) / WRITE] = Word::Torn;
        }
    }
}

impl<const READ: usize, const WRITE: usize, const PAGE: usize> ErrorType for Nor<READ, WRITE, PAGE> {
    type Error = Fault;
}

impl<const READ: usize, const WRITE: usize, const PAGE: usize> ReadNorFlash for Nor<READ, WRITE, PAGE> {
    const READ_SIZE: usize = READ;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let from = self.check(offset, bytes.len(), READ)?;
        self.counts.reads += 1;
        self.counts.bytes_read += bytes.len() as u64;
        bytes.copy_from_slice(&self.cells[from..from + bytes.len()]);
        if !self.unstable.is_empty() {
            let mood = if matches!(self.mood, Mood::Random) { self.next_mood() } else { self.mood };
            let torn: Vec<(usize, (u8, u8))> =
                self.unstable.range(from..from + bytes.len()).map(|(&at, &bits)| (at, bits)).collect();
            for (at, (old, new)) in torn {
                let random = self.next_random() as u8;
                bytes[at - from] = match mood {
                    Mood::Old => old,
                    Mood::New => new,
                    Mood::Random => (old & !random) | (new & random),
                };
            }
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.cells.len()
    }
}

impl<const READ: usize, const WRITE: usize, const PAGE: usize> NorFlash for Nor<READ, WRITE, PAGE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let start = self.check(from, to.saturating_sub(from) as usize, PAGE)?;
        for page in start / PAGE..to as usize / PAGE {
            yield_now(self.yields).await;
            self.counts.erases += 1;
            self.erased[page] += 1;
            let failed = self.fails(page);
            for at in page * PAGE..(page + 1) * PAGE {
                let alive = self.spends();
                if !alive || (failed && at % PAGE == PAGE / 2) {
                    if self.tear != Tear::Clean {
                        for at in at..(page + 1) * PAGE {
                            self.mixes(at, self.cells[at], 0xff);
                        }
                    }
                    self.words[page * PAGE / WRITE..(page + 1) * PAGE / WRITE].fill(Word::Torn);
                    return Err(if alive { Fault::Failed } else { Fault::Off });
                }
                self.cells[at] = 0xff;
                if self.yields && at % PAGE == PAGE / 2 {
                    // Who drops the erase here has a page that is half erased.
                    self.words[page * PAGE / WRITE..(page + 1) * PAGE / WRITE].fill(Word::Torn);
                    yield_now(true).await;
                }
            }
            self.words[page * PAGE / WRITE..(page + 1) * PAGE / WRITE].fill(Word::Blank);
            self.unstable.retain(|at, _| at / PAGE != page);
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let from = self.check(offset, bytes.len(), WRITE)?;
        self.counts.writes += 1;
        self.counts.bytes_written += bytes.len() as u64;
        let failed = !bytes.is_empty() && self.fails(from / PAGE);
        for done in 0..bytes.len() {
            if done % WRITE == 0 {
                yield_now(self.yields).await;
            }
            let alive = self.spends();
            if !alive || (failed && done == bytes.len() / 2) {
                self.tears_write(from, bytes, done);
                return Err(if alive { Fault::Failed } else { Fault::Off });
            }
            if done % WRITE == 0 {
                let word = (from + done) / WRITE;
                match self.words[word] {
                    Word::Blank => self.words[word] = Word::Written,
                    Word::Torn => return Err(Fault::Failed),
                    Word::Written => panic!("the word at {:#x} is written twice", word * WRITE),
                }
            }
            self.cells[from + done] &= bytes[done];
        }
        Ok(())
    }
}

/// Gives up the processor once.
async fn yield_now(really: bool) {
    let mut left = really;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut left) {
            context.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}
