//! A durable session as bytes, for the store (§6.3).

use super::recent::{DEPTH, Recent};
use super::session::{Session, Ticket};
use super::tx::{Mark, Tx};
use crate::crc::Crc;
use crate::wire::MessageId;
use crate::{Dialect, SavedError, Side};

/// Longest saved session in bytes.
pub const SAVED_MAX: usize = FIXED + DEPTH * ENTRY + CRC;

const MAGIC: [u8; 4] = *b"BWL\x01";

/// Bytes before the window of received messages.
const FIXED: usize = 14;

/// Bytes of one received message: id and digest.
const ENTRY: usize = 9;

const CRC: usize = 4;

/// A session as bytes, with the mark that says what they contain.
#[derive(Debug, Clone)]
#[must_use = "it is of use only when it is stored"]
pub struct Saved {
    bytes: [u8; SAVED_MAX],
    len: usize,
    mark: Mark,
}

impl Saved {
    /// What to store: at most [`SAVED_MAX`] bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What goes back by [`Session::handle_saved`] after the commit.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl Session {
    /// A volatile session of a device that goes on with its ids after a restart: its driver tells them from what it
    /// keeps of its own, as a board does whose outbox knows no sessions. `in_flight` may have been sent in the last
    /// life, and goes out again; the message behind it has the id `next`. What was received is not known any more.
    #[must_use]
    pub fn continued(side: Side, dialect: Dialect, next: MessageId, in_flight: Option<MessageId>) -> Self {
        Session::continues(side, dialect, Tx::restored(next, in_flight, false))
    }

    /// What to store in one transaction with the messages of the tickets `accepted`: the session as it
    /// will be when they have gone back, in this order, by
    /// [`Link::handle_accepted`](super::Link::handle_accepted). The live session is not changed.
    ///
    /// The driver's part, without which a restored session is not the one that went down:
    ///
    /// 1. Session and outbox are stored as one: in the transaction, or before, everything that
    ///    [`Received::Acked`](super::Received::Acked) has named leaves the stored outbox, and nothing
    ///    else; the message in flight stands at its head.
    /// 2. After the commit the tickets go back, and so does [`Saved::mark`], by
    ///    [`Session::handle_saved`]. Up to 16 messages can wait for that; what comes then is refused
    ///    and comes again (§2.8), so a driver with slow commits had better stop reading before.
    /// 3. Saves are committed in the order in which they were made. A save made while an earlier one
    ///    is on its way is given the tickets of that one too, before its own. If the earlier one then
    ///    fails, the later one must fail as well, or its transaction contain the earlier one's messages.
    /// 4. When a save fails, its tickets stay, for the next save or to be refused. Those behind a
    ///    refused one are refused too.
    /// 5. The newest committed save is the one to restore. One from an older backup is not: its ids
    ///    would be used twice (§6.1).
    pub fn save_with<'a>(&self, accepted: impl IntoIterator<Item = &'a Ticket>) -> Saved {
        let recent = self.recent_with(accepted);
        // On P nothing is in flight across a restart: what was not written whole is written again.
        let in_flight = self.in_flight().filter(|_| self.dialect() != Some(Dialect::Plain));
        let mut saved = Saved { bytes: [0; SAVED_MAX], len: 0, mark: self.tx.mark(self.cuts()) };
        saved.put(&MAGIC);
        saved.put(&[
            self.dialect().map_or(0, |dialect| dialect.letter() as u8),
            self.tx.resumes_at().number(),
            in_flight.is_some().into(),
            in_flight.map_or(0, MessageId::number),
        ]);
        saved.put(&self.epoch().to_be_bytes());
        saved.put(&[recent.depth() as u8, recent.iter().count() as u8]);
        for (id, digest) in recent.iter() {
            saved.put(&[id.number()]);
            saved.put(&digest.to_be_bytes());
        }
        let crc = Crc::new().with(saved.as_bytes()).value();
        saved.put(&crc.to_be_bytes());
        saved
    }

    /// The durable session that was saved. What was received and not stored will come again; what was
    /// in flight goes out again under its id.
    ///
    /// # Errors
    /// If the bytes are no saved session.
    pub fn restore(side: Side, bytes: &[u8]) -> Result<Self, SavedError> {
        let content = bytes.strip_prefix(&MAGIC).ok_or(SavedError::Format)?;
        let (content, crc) = content.split_last_chunk::<CRC>().ok_or(SavedError::Format)?;
        if Crc::new().with(&MAGIC).with(content).value() != u32::from_be_bytes(*crc) {
            return Err(SavedError::Checksum);
        }
        let (&[dialect, next, flying, id, e0, e1, e2, e3, depth, len], window) =
            content.split_first_chunk::<{ FIXED - MAGIC.len() }>().ok_or(SavedError::Format)?;
        let dialect = match dialect {
            0 => None,
            b'H' => Some(Dialect::Headers),
            b'U' => Some(Dialect::Upstream),
            b'P' => Some(Dialect::Plain),
            _ => return Err(SavedError::Contradiction),
        };
        let acknowledges = dialect.is_some_and(Dialect::acknowledges);
        let (next, id) = (MessageId::new(next), MessageId::new(id));
        let (next, flying, id) =
            if crate::planted!(IdReset) { (MessageId::FIRST, 0, MessageId::FIRST) } else { (next, flying, id) };
        let in_flight = match flying {
            0 if id.is_first() => None,
            1 if acknowledges && Tx::may_stand(id, next) => Some(id),
            _ => return Err(SavedError::Contradiction),
        };
        let (depth, len) = (usize::from(depth), usize::from(len));
        if !(1..=DEPTH).contains(&depth) || len > depth || window.len() != len * ENTRY {
            return Err(SavedError::Contradiction);
        }
        let mut recent = Recent::new(depth);
        for &[id, ref digest @ ..] in window.as_chunks::<ENTRY>().0 {
            recent.push(MessageId::new(id), u64::from_be_bytes(*digest));
        }
        let tx = Tx::restored(next, in_flight, acknowledges);
        Ok(Session::restored(side, dialect, tx, recent, u32::from_be_bytes([e0, e1, e2, e3])))
    }
}
