//! Finds the records of a page.

use embedded_storage_async::nor_flash::NorFlash;

use crate::format::{HEAD, Head, Kind, Place, STATE, State};
use crate::media::{CHUNK, Media, first};

/// Where in a page the search is.
#[derive(Debug)]
pub(crate) struct Cursor {
    place: Place,
    /// Up to here something is known to be written, or to have been begun.
    pub(crate) used: u32,
}

/// A record whose head and body are whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) head: Head,
    /// How its body begins. Read together with what the checksum was made of: half-programmed bits need not
    /// read the same again.
    pub(crate) body: [u8; STATE],
}

impl Cursor {
    pub(crate) fn new<F: NorFlash>(page: u32) -> Self {
        let offset = Media::<F>::FIRST;
        Cursor { place: Place { page, offset }, used: offset }
    }

    /// The next record. What is none is passed grain by grain, also inside of a record whose body is not
    /// whole: bits that a power cut has left half written may show such a head where an earlier search saw
    /// none, over records that were written since.
    pub(crate) async fn next<F: NorFlash>(&mut self, media: &mut Media<F>) -> Result<Option<Found>, F::Error> {
        let grain = Media::<F>::GRAIN;
        while self.place.offset + Media::<F>::SMALL <= Media::<F>::PAGE {
            let place = self.place;
            let mut chunk = [0; CHUNK];
            let chunk = first(&mut chunk, (Media::<F>::PAGE - place.offset) as usize);
            media.read(place, chunk).await?;
            if chunk.iter().all(|&byte| byte == 0xff) {
                // No record begins in here: none begins with this byte.
                self.place.offset += chunk.len() as u32;
                continue;
            }
            let Some(bytes) = chunk.first_chunk::<HEAD>() else { break };
            if let Some(head) = Media::<F>::parse_head(bytes, place) {
                let end = place.offset + Media::<F>::record(head.len.into());
                self.used = self.used.max(end);
                let mut body = [0; STATE];
                let whole = media.body(place, &head, 0, &mut body).await?;
                if whole && (head.kind != Kind::State || State::parse(&body).can_be(place.page)) {
                    self.place.offset = end;
                    return Ok(Some(Found { place, head, body }));
                }
            } else if chunk.iter().take(grain as usize).any(|&byte| byte != 0xff) {
                self.used = self.used.max(place.offset + grain);
            }
            self.place.offset += grain;
        }
        // No record begins here, but one may end here.
        let mut tail = [0xff; CHUNK];
        let tail = first(&mut tail, Media::<F>::PAGE.saturating_sub(self.place.offset) as usize);
        media.read(self.place, tail).await?;
        if tail.iter().any(|&byte| byte != 0xff) {
            self.used = Media::<F>::PAGE;
        }
        Ok(None)
    }
}
