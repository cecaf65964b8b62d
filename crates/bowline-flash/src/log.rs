//! The log: where records go, and how pages follow each other.

use embedded_storage_async::nor_flash::NorFlash;

use crate::error::WriteError;
use crate::format::{COMMITS, DOUBTS, Head, Kind, Numbers, PageHead, Place, STATE, State};
use crate::index::Index;
use crate::media::Media;

/// How many pages are free beside the one that is begun, before the oldest is cleared for it. One is needed
/// always; with the other, a page that cannot be written is passed over.
const SPARE: u32 = 2;

/// The log and what it says.
///
/// Every method that writes may be dropped at any await, or fail: what memory says changes only when a
/// write has returned, and `torn` and `closed`, set before, say what has to be done before the next one.
#[derive(Debug)]
pub(crate) struct Log<'a, F> {
    pub(crate) media: Media<F>,
    pub(crate) index: Index<'a>,
    pub(crate) numbers: Numbers,
    /// The first page that counts.
    pub(crate) oldest: u32,
    /// The page that is written. Those from `oldest` on count, and no others.
    pub(crate) newest: u32,
    /// Where its next record goes.
    pub(crate) end: u32,
    /// The last record that is complete.
    pub(crate) last: Place,
    /// A record was begun and not seen to be complete. Nothing may depend on it, and it may be whole
    /// nevertheless: a state must follow it before anything else does, which makes it void.
    pub(crate) torn: bool,
    /// Nothing goes into the page any more: the next one was begun and may count already, or a write failed.
    pub(crate) closed: bool,
    /// The record that was found at the end of the log, and is not in effect before it is written again.
    pub(crate) doubt: Option<(Place, Head)>,
    /// States say so.
    pub(crate) doubts: bool,
    /// Where it was written again.
    pub(crate) confirmed: Option<Place>,
}

impl<F: NorFlash> Log<'_, F> {
    /// Writes a record, where there is room for it. If that fails, once more, on another page.
    pub(crate) async fn append(&mut self, head: Head, body: &[&[u8]]) -> Result<Place, WriteError<F::Error>> {
        let size = Media::<F>::record(head.len.into());
        self.makes_room(size).await?;
        if let Ok(place) = self.put(head, body).await {
            return Ok(place);
        }
        self.makes_room(size).await?;
        Ok(self.put(head, body).await?)
    }

    /// Writes a record that has numbers only.
    pub(crate) async fn note(
        &mut self,
        kind: Kind,
        flags: u8,
        number: u64,
        live: u32,
    ) -> Result<(), WriteError<F::Error>> {
        let head = Head { kind, flags, len: 0, extra: live.to_le_bytes(), number, body_crc: 0 };
        self.append(head, &[]).await?;
        Ok(())
    }

    /// Writes all numbers, as they are to be from then on.
    pub(crate) async fn state(&mut self, numbers: Numbers) -> Result<(), WriteError<F::Error>> {
        self.makes_room(Media::<F>::STATE).await?;
        if self.put_state(numbers).await.is_err() {
            self.makes_room(Media::<F>::STATE).await?;
            self.put_state(numbers).await?;
        }
        Ok(())
    }

    /// Makes sure that a record of this many bytes fits behind the last one, and may stand there.
    pub(crate) async fn makes_room(&mut self, size: u32) -> Result<(), WriteError<F::Error>> {
        // The messages that are left, and the record, fit into the pages there are: at the latest when each
        // was cleared once there is room. Twice that, because states take up some.
        for _ in 0..2 * self.media.pages() {
            if self.confirmed.is_some() {
                return Ok(());
            }
            let fits = |size| self.end + size <= Media::<F>::PAGE;
            match (self.closed, self.torn) {
                (false, false) if fits(size) => return Ok(()),
                // If it fails, the page is closed, and the next one begins with a state.
                (false, true) if fits(Media::<F>::STATE) => _ = self.put_state(self.numbers).await,
                _ => self.begins_page().await?,
            }
        }
        Err(WriteError::NoPage)
    }

    async fn put_state(&mut self, numbers: Numbers) -> Result<(), F::Error> {
        let state = State { numbers, oldest: self.oldest, after: self.last };
        self.put(self.state_head(COMMITS), &[&state.emit()]).await?;
        Ok(())
    }

    fn state_head(&self, flags: u8) -> Head {
        let flags = flags | if self.doubts { DOUBTS } else { 0 };
        let extra = self.live().to_le_bytes();
        Head { kind: Kind::State, flags, len: STATE as u16, extra, number: 0, body_crc: 0 }
    }

    /// How many messages must be found at the next start.
    pub(crate) const fn live(&self) -> u32 {
        self.index.len() as u32
    }

    /// Writes at the end of the page. What becomes of it, nothing is written there again.
    async fn put(&mut self, head: Head, body: &[&[u8]]) -> Result<Place, F::Error> {
        let place = self.begins_record(head.len);
        let written = self.media.write_record(place, head, body).await;
        self.closed |= written.is_err();
        written?;
        Ok(self.ends_record(place))
    }

    /// Writes the record at the end of the log once more, behind a state that doubts it. Returns where it is
    /// in effect then; `None` if it could not be read.
    pub(crate) async fn confirms(&mut self, from: Place, head: Head) -> Result<Option<Place>, WriteError<F::Error>> {
        (self.doubt, self.doubts) = (Some((from, head)), true);
        let mut said = false;
        for _ in 0..4 * self.media.pages() {
            self.makes_room(if said { Media::<F>::record(head.len.into()) } else { Media::<F>::STATE }).await?;
            let Some((from, head)) = self.doubt else {
                // A page that was begun has it.
                self.doubts = false;
                return Ok(self.confirmed.take());
            };
            if !said {
                said = self.put_state(self.numbers).await.is_ok();
                continue;
            }
            let place = self.begins_record(head.len);
            let copied = self.media.copy(from, place, &head).await;
            self.closed |= copied.is_err();
            if let Ok(good) = copied {
                (self.doubt, self.doubts) = (None, false);
                return Ok(good.then(|| self.ends_record(place)));
            }
        }
        Err(WriteError::NoPage)
    }

    /// Writes a state that doubts what the one at the end of the log doubts, behind which nothing is.
    pub(crate) async fn doubts_again(&mut self) -> Result<(), WriteError<F::Error>> {
        self.doubts = true;
        let written = self.state(self.numbers).await;
        self.doubts = false;
        written
    }

    fn begins_record(&mut self, len: u16) -> Place {
        let place = Place { page: self.newest, offset: self.end };
        self.end += Media::<F>::record(len.into());
        self.torn = true;
        place
    }

    fn ends_record(&mut self, place: Place) -> Place {
        (self.last, self.torn) = (place, false);
        place
    }

    /// Begins the next page. If few are free, what is left in the oldest moves there.
    async fn begins_page(&mut self) -> Result<(), WriteError<F::Error>> {
        self.closed = true;
        while self.oldest < self.newest && !self.holds(self.oldest) {
            self.oldest += 1;
        }
        let mut page = self.newest + 1;
        loop {
            let used = page - self.oldest;
            if used >= self.media.pages() {
                return Err(WriteError::NoPage);
            }
            let clear = (used + SPARE >= self.media.pages()).then_some(self.oldest);
            match self.fills_page(page, clear).await {
                Ok(()) => return Ok(()),
                // The page may be worn out: the next one, if it is free.
                Err(error) if used + 1 >= self.media.pages() => return Err(error.into()),
                Err(_) => page += 1,
            }
        }
    }

    /// Where a slot's record is.
    pub(crate) fn place(&self, address: u32) -> Place {
        let ahead = self.media.turn(address / Media::<F>::PAGE + self.media.pages() - self.media.turn(self.oldest));
        Place { page: self.oldest + ahead, offset: address % Media::<F>::PAGE }
    }

    /// Between these there may be holes.
    pub(crate) const fn holes(&self) -> (u64, u64) {
        (self.numbers.acked, self.numbers.last)
    }

    fn is_in(&self, address: u32, page: u32) -> bool {
        address / Media::<F>::PAGE == self.media.turn(page)
    }

    fn is_doubted(&self, page: u32) -> bool {
        self.doubt.is_some_and(|(place, _)| place.page == page)
    }

    fn holds(&self, page: u32) -> bool {
        self.index.slots().iter().any(|slot| self.is_in(slot.at, page)) || self.is_doubted(page)
    }

    /// Writes page `page` with all numbers and what is left in `clear`, and then that it counts. Before, it
    /// does not; from then on, `clear` does not.
    async fn fills_page(&mut self, page: u32, clear: Option<u32>) -> Result<(), F::Error> {
        let oldest = clear.map_or(self.oldest, |cleared| cleared + 1);
        self.media.erase(page).await?;
        let start = Place { page, offset: 0 };
        self.media.write(start, &[&PageHead::emit(page, Media::<F>::GRAIN)]).await?;
        let place = Place { page, offset: Media::<F>::FIRST };
        let state = State { numbers: self.numbers, oldest, after: self.last };
        let moved = self.media.write_record(place, self.state_head(0), &[&state.emit()]).await?;

        let mut end = moved;
        for slot in self.index.slots() {
            let Some(from) = clear.filter(|&cleared| self.is_in(slot.at, cleared)) else { continue };
            let from = Place { page: from, offset: slot.at % Media::<F>::PAGE };
            let found = self.media.head(from).await?;
            // A head that has become unreadable makes a record whose checksum does not fit: the loss is
            // told where it is read.
            let body_crc = found.filter(|head| head.number == slot.number).map_or(BROKEN, |head| head.body_crc);
            let [app, instance, tag] = slot.channel;
            let extra = [app, instance, tag, 0];
            let (flags, len, number) = (slot.flags.0, slot.len, slot.number);
            let head = Head { kind: Kind::Message, flags, len, extra, number, body_crc };
            self.media.copy(from, Place { page, offset: end }, &head).await?;
            end += Media::<F>::record(len.into());
        }
        let mut confirmed = None;
        let doubt = self.doubt.filter(|(place, _)| clear == Some(place.page));
        if let Some((from, head)) = doubt {
            let place = Place { page, offset: end };
            confirmed = self.media.copy(from, place, &head).await?.then_some(place);
            end += Media::<F>::record(head.len.into());
        }
        let extra = self.live().to_le_bytes();
        let commit = Head { kind: Kind::Commit, flags: 0, len: 0, extra, number: 0, body_crc: 0 };
        let last = Place { page, offset: end };
        end = self.media.write_record(last, commit, &[]).await?;

        // From here on nothing is awaited.
        let (cleared, size) = (clear.map(|cleared| self.media.turn(cleared)), Media::<F>::PAGE);
        let mut at = self.media.address(Place { page, offset: moved });
        for slot in self.index.slots_mut() {
            if cleared == Some(slot.at / size) {
                slot.at = at;
                at += Media::<F>::record(slot.len.into());
            }
        }
        (self.oldest, self.newest, self.end) = (oldest, page, end);
        self.closed = false;
        if doubt.is_some() {
            (self.doubt, self.confirmed) = (None, confirmed);
        }
        self.ends_record(last);
        Ok(())
    }
}

/// A checksum that no body has that could be read: that of a record whose head is gone is not known.
const BROKEN: u32 = 0x0bad_c0de;
