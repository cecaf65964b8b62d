//! The flash as pages that are numbered for ever, read and written in whole grains.

use core::num::NonZeroU32;

use bowline_proto::Crc;
use embedded_storage_async::nor_flash::NorFlash;

use crate::error::GeometryError;
use crate::format::{HEAD, Head, MAX_PREFIX, PAGE_HEAD, PageHead, Place, STATE, copy};

/// Bytes moved at a time. Every grain divides it.
pub(crate) const CHUNK: usize = 64;

/// A buffer that drivers with word-wide transfers can take.
#[repr(align(8))]
struct Chunk([u8; CHUNK]);

/// The flash. Page number `p` stands at place `p` modulo the number of pages: a page's number tells where
/// it is, and each page is erased as often as any other.
#[derive(Debug)]
pub(crate) struct Media<F> {
    pub(crate) flash: F,
    pages: NonZeroU32,
}

impl<F: NorFlash> Media<F> {
    /// Everything begins at a multiple of this and is as long as one.
    pub(crate) const GRAIN: u32 = {
        let mut grain = 8;
        if F::READ_SIZE > grain {
            grain = F::READ_SIZE;
        }
        if F::WRITE_SIZE > grain {
            grain = F::WRITE_SIZE;
        }
        grain as u32
    };
    /// Bytes of a page.
    pub(crate) const PAGE: u32 = F::ERASE_SIZE as u32;
    /// Where a page's first record is.
    pub(crate) const FIRST: u32 = Self::rounded(PAGE_HEAD);
    /// Bytes of a record without a body.
    pub(crate) const SMALL: u32 = Self::rounded(HEAD);
    /// Bytes of a state.
    pub(crate) const STATE: u32 = Self::record(STATE);
    /// Bytes of a page for what is not written when it is begun.
    pub(crate) const USABLE: u32 = Self::PAGE.saturating_sub(Self::FIRST + Self::STATE + Self::SMALL);
    /// Bytes of the largest record: two in a page, and a state, so that the end of a page is no great loss, and one
    /// finds room in every page.
    pub(crate) const LARGEST: u32 = {
        let half = Self::USABLE.saturating_sub(Self::STATE) / 2 / Self::GRAIN * Self::GRAIN;
        let most = Self::SMALL + (u16::MAX as u32) / Self::GRAIN * Self::GRAIN;
        if half < most { half } else { most }
    };

    pub(crate) const fn rounded(len: usize) -> u32 {
        (len as u32).next_multiple_of(Self::GRAIN)
    }

    /// Bytes of a record with a body of `len` bytes.
    pub(crate) const fn record(len: usize) -> u32 {
        Self::SMALL + Self::rounded(len)
    }

    pub(crate) fn new(flash: F) -> Result<Self, GeometryError> {
        let fits = |size: usize| size.is_power_of_two() && size <= CHUNK;
        if !fits(F::READ_SIZE) || !fits(F::WRITE_SIZE) {
            return Err(GeometryError::Words { read: F::READ_SIZE, write: F::WRITE_SIZE });
        }
        // So large that two small messages fit, and not so large that the numbers of places would not.
        let least = Self::SMALL as usize + MAX_PREFIX;
        if F::ERASE_SIZE > 1 << 24 || !F::ERASE_SIZE.is_multiple_of(CHUNK) || Self::LARGEST as usize <= least {
            return Err(GeometryError::Page { size: F::ERASE_SIZE });
        }
        let pages = flash.capacity() / F::ERASE_SIZE;
        match u32::try_from(pages).ok().and_then(NonZeroU32::new) {
            Some(pages) if pages.get() >= 4 && u32::try_from(flash.capacity()).is_ok() => Ok(Media { flash, pages }),
            _ => Err(GeometryError::Pages { count: pages }),
        }
    }

    /// How many there are.
    pub(crate) const fn pages(&self) -> u32 {
        self.pages.get()
    }

    /// Which of them a page is.
    pub(crate) fn turn(&self, page: u32) -> u32 {
        page % self.pages
    }

    pub(crate) fn address(&self, place: Place) -> u32 {
        self.turn(place.page) * Self::PAGE + place.offset
    }

    /// Reads `bytes.len()` bytes, at most a chunk, that begin at a grain and end inside of the page.
    async fn read_chunk(&mut self, place: Place, bytes: &mut [u8]) -> Result<(), F::Error> {
        let mut chunk = Chunk([0; CHUNK]);
        let whole = bytes.len().next_multiple_of(Self::GRAIN as usize).min(CHUNK);
        self.flash.read(self.address(place), first(&mut chunk.0, whole)).await?;
        copy(bytes, &chunk.0);
        Ok(())
    }

    pub(crate) async fn read(&mut self, mut place: Place, bytes: &mut [u8]) -> Result<(), F::Error> {
        for piece in bytes.chunks_mut(CHUNK) {
            self.read_chunk(place, piece).await?;
            place.offset += CHUNK as u32;
        }
        Ok(())
    }

    pub(crate) async fn page_head(&mut self, page: u32) -> Result<PageHead, F::Error> {
        let mut bytes = [0; PAGE_HEAD];
        self.read(Place { page, offset: 0 }, &mut bytes).await?;
        Ok(PageHead::parse(&bytes, Self::GRAIN))
    }

    /// The head of a record, if there is one and its record ends inside of the page.
    pub(crate) async fn head(&mut self, place: Place) -> Result<Option<Head>, F::Error> {
        if place.offset + Self::SMALL > Self::PAGE {
            return Ok(None);
        }
        let mut bytes = [0; HEAD];
        self.read(place, &mut bytes).await?;
        Ok(Self::parse_head(&bytes, place))
    }

    pub(crate) fn parse_head(bytes: &[u8; HEAD], place: Place) -> Option<Head> {
        Head::parse(bytes, place).filter(|head| place.offset + Self::record(head.len.into()) <= Self::PAGE)
    }

    /// Reads a body into `into` from its byte `from` on, as much as goes in, and says whether its checksum fits.
    pub(crate) async fn body(
        &mut self,
        place: Place,
        head: &Head,
        from: usize,
        into: &mut [u8],
    ) -> Result<bool, F::Error> {
        let len = usize::from(head.len);
        let mut crc = Crc::new();
        let mut done = 0;
        while done < len {
            let mut piece = [0; CHUNK];
            let piece = first(&mut piece, len - done);
            let offset = place.offset + Self::SMALL + done as u32;
            self.read_chunk(Place { offset, ..place }, piece).await?;
            crc = crc.with(piece);
            let wanted = from.saturating_sub(done).min(piece.len());
            let at = (done + wanted).saturating_sub(from);
            copy(into.get_mut(at..).unwrap_or_default(), piece.get(wanted..).unwrap_or_default());
            done += piece.len();
        }
        Ok(crc.value() == head.body_crc)
    }

    pub(crate) async fn erase(&mut self, page: u32) -> Result<(), F::Error> {
        let from = self.address(Place { page, offset: 0 });
        self.flash.erase(from, from + Self::PAGE).await
    }

    /// Writes the parts one after the other, filled up to a whole grain. Each word is written once.
    pub(crate) async fn write(&mut self, place: Place, parts: &[&[u8]]) -> Result<(), F::Error> {
        let mut at = self.address(place);
        let mut chunk = Chunk([0xff; CHUNK]);
        let mut used = 0;
        for mut rest in parts.iter().copied() {
            while !rest.is_empty() {
                let room = chunk.0.get_mut(used..).unwrap_or_default();
                let (now, later) = rest.split_at_checked(room.len()).unwrap_or((rest, &[]));
                copy(room, now);
                used += now.len();
                rest = later;
                if used == CHUNK {
                    self.flash.write(at, &chunk.0).await?;
                    (at, used, chunk) = (at + CHUNK as u32, 0, Chunk([0xff; CHUNK]));
                }
            }
        }
        if used > 0 {
            let whole = used.next_multiple_of(Self::GRAIN as usize);
            self.flash.write(at, first(&mut chunk.0, whole)).await?;
        }
        Ok(())
    }

    /// Writes a record: first its head, and the body only when the head is written. So where a head is
    /// not whole, nothing was written behind it.
    pub(crate) async fn write_record(&mut self, place: Place, head: Head, body: &[&[u8]]) -> Result<u32, F::Error> {
        let body_crc = body.iter().fold(Crc::new(), |crc, part| crc.with(part)).value();
        let head = Head { body_crc, ..head };
        self.write(place, &[&head.emit(place)]).await?;
        self.write(Place { offset: place.offset + Self::SMALL, ..place }, body).await?;
        Ok(place.offset + Self::record(head.len.into()))
    }

    /// Writes a record again, somewhere else. Says whether its checksum fits: if not, that of the copy does not
    /// either.
    pub(crate) async fn copy(&mut self, from: Place, to: Place, head: &Head) -> Result<bool, F::Error> {
        self.write(to, &[&head.emit(to)]).await?;
        let (mut crc, mut done) = (Crc::new(), 0);
        while done < usize::from(head.len) {
            let mut piece = [0; CHUNK];
            let piece = first(&mut piece, usize::from(head.len) - done);
            let offset = Self::SMALL + done as u32;
            self.read_chunk(Place { offset: from.offset + offset, ..from }, piece).await?;
            self.write(Place { offset: to.offset + offset, ..to }, &[piece]).await?;
            crc = crc.with(piece);
            done += piece.len();
        }
        Ok(crc.value() == head.body_crc)
    }
}

/// The first `len` bytes of a chunk, or all of it.
pub(crate) fn first(chunk: &mut [u8; CHUNK], len: usize) -> &mut [u8] {
    chunk.get_mut(..len.min(CHUNK)).unwrap_or_default()
}
