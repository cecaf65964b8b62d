//! A flash chip in a file of the host: what was programmed or erased is in the file at once, a word after the other, so
//! that an emulator that is killed is a board without power.

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::host::{Failed, File};

/// The words and pages of the LM3S6965's own flash.
const WORD: usize = 4;
const PAGE: usize = 1024;
/// Bytes of it all.
const SIZE: usize = 32 * PAGE;

/// The file, in the folder that the emulator was started in.
const PATH: &core::ffi::CStr = c"flash.bin";

/// The chip.
pub struct Flash(File);

/// Why it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The host's file cannot be read or written.
    Host,
    /// Addresses are not those of whole words and pages of this chip.
    Address,
    /// The host's file is longer than the chip.
    NoImage,
}

impl Flash {
    /// The chip as the last life has left it, or a new one, erased.
    pub fn powers_up() -> Result<Self, Fault> {
        let mut file = File::updates(PATH).or_else(|Failed| File::creates(PATH))?;
        let len = file.len()?;
        if len > SIZE {
            return Err(Fault::NoImage);
        }
        // One that is too short was new, and the power went.
        file.seeks(len)?;
        for _ in len..SIZE {
            file.write(&[0xff])?;
        }
        Ok(Flash(file))
    }

    fn read_at(&mut self, at: usize, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.seeks(at)?;
        Ok(self.0.read_exact(bytes)?)
    }
}

/// Both ends of a range, if it is one of the chip in whole units.
fn range(from: u32, to: usize, unit: usize) -> Result<usize, Fault> {
    let from = from as usize;
    let fits = from <= to && to <= SIZE && from.is_multiple_of(unit) && to.is_multiple_of(unit);
    if fits { Ok(from) } else { Err(Fault::Address) }
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let at = range(offset, offset as usize + bytes.len(), 1)?;
        self.read_at(at, bytes)
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let at = range(from, to as usize, PAGE)?;
        self.0.seeks(at)?;
        for _ in (at..to as usize).step_by(WORD) {
            self.0.write(&[0xff; WORD])?;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let at = range(offset, offset as usize + bytes.len(), WORD)?;
        for (at, word) in (at..).step_by(WORD).zip(bytes.chunks_exact(WORD)) {
            // Programming makes ones into zeros, and nothing else.
            let mut there = [0; WORD];
            self.read_at(at, &mut there)?;
            there.iter_mut().zip(word).for_each(|(there, byte)| *there &= byte);
            self.0.seeks(at)?;
            self.0.write(&there)?;
        }
        Ok(())
    }
}

impl ErrorType for Flash {
    type Error = Fault;
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Fault::Host | Fault::NoImage => NorFlashErrorKind::Other,
            Fault::Address => NorFlashErrorKind::NotAligned,
        }
    }
}

impl From<Failed> for Fault {
    fn from(_: Failed) -> Self {
        Fault::Host
    }
}
