//! Reads the log after a start.
//!
//! 1. The newest page that counts is found: it has a commit, or a state that commits.
//! 2. It tells the oldest. All pages between are read in order; a record takes effect when the next one has
//!    been seen, for a state may follow that makes it void.
//! 3. The very last record may have been cut off while it was written, and read as whole by chance. It is not
//!    in effect, and nothing is told of it, before it is written once more.
//!
//! Behind each place where writing may have been cut off stands a state, which names the last record before.
//! So what was half written stays out of effect, however it reads later.

use embedded_storage_async::nor_flash::NorFlash;

use crate::cursor::{Cursor, Found};
use crate::error::OpenError;
use crate::format::{COMMITS, DOUBTS, Kind, Numbers, PageHead, Place, State};
use crate::index::{Index, Slot};
use crate::log::Log;
use crate::media::Media;
use crate::message::{Clock, Flags, Prefix};

/// What was found on the flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "what was lost should be told to someone"]
pub struct Report {
    /// There was no outbox: a new one has been begun.
    pub fresh: bool,
    /// In its place there was something that is none, or one that cannot be read any more.
    pub foreign: bool,
    /// Messages waiting.
    pub waiting: usize,
    /// Messages that were accepted and cannot be read any more. They are gaps.
    pub lost: u64,
}

/// A page, looked through.
struct Look {
    counts: bool,
    /// The highest number of a message in it.
    highest: u64,
    /// The first page that counts, by its last state.
    oldest: u32,
}

struct Replay {
    clock: Clock,
    /// How many messages there should be.
    live: u32,
    /// The last three records, not yet in effect: the end of a life's log, what was begun behind it, and the
    /// first state of the next life, each of which may be half written and void.
    pending: [Option<Found>; 3],
    /// A message or a drop that was the end of the log once, and was not written again.
    doubt: Option<Found>,
    /// There were more messages than slots, by damage or because there are fewer slots than there were.
    overflow: bool,
    /// The newest page counts.
    counts: bool,
    /// The last record is a state that doubts.
    doubts: bool,
}

pub(crate) async fn open<F: NorFlash>(
    flash: F,
    mut slots: &mut [Slot],
    clock: Clock,
) -> Result<(Log<'_, F>, Report), OpenError<F::Error>> {
    let mut media = Media::new(flash).map_err(OpenError::Geometry)?;
    let mut below = u32::MAX;
    let (mut log, mut replay, report) = loop {
        let (log, replay, report) = load(media, slots, clock, below).await?;
        if replay.counts {
            break (log, replay, report);
        }
        // What makes the page count is half written: it does not, and is erased before anything else is done.
        (below, media, slots) = (log.newest, log.media, log.index.into_slots());
    };
    forgets_ahead(&mut log).await?;
    if let Some(last) = replay.doubt {
        let confirmed = log.confirms(last.place, last.head).await.map_err(OpenError::Write)?;
        // One that reads differently was never complete, and nobody has seen it.
        if let Some(place) = confirmed {
            replay.applies(&mut log, &Found { place, ..last });
        }
    } else if replay.doubts {
        // What that state doubts cannot be read; another time, it might be the other way round.
        log.doubts_again().await.map_err(OpenError::Write)?;
    }
    log.state(log.numbers).await.map_err(OpenError::Write)?;
    let waiting = log.index.len();
    let lost = report.lost + u64::from(replay.live.saturating_sub(log.live()));
    Ok((log, Report { waiting, lost, ..report }))
}

/// Reads the log, as far as it is in pages below `below`, and writes nothing.
async fn load<F: NorFlash>(
    mut media: Media<F>,
    slots: &mut [Slot],
    clock: Clock,
    below: u32,
) -> Result<(Log<'_, F>, Replay, Report), OpenError<F::Error>> {
    let (highest, blank) = highest_page(&mut media).await?;
    let (mut beyond, mut found) = (0, None);
    // Where a page's head is damaged, its records tell its number. Those that come next may stand anywhere, whatever
    // has become of the pages between.
    let lowest = (highest + 1).saturating_sub(media.pages()).max(1);
    for page in (lowest..below.min(highest + media.pages() + 1)).rev() {
        if !starts(&mut media, page).await? {
            continue;
        }
        let look = look(&mut media, page).await?;
        if look.counts {
            found = Some((page, look));
            break;
        }
        // It was being begun; or its commit is damaged, and then messages in it tell.
        beyond = beyond.max(look.highest);
    }
    let mut log = Log {
        media,
        index: Index::new(slots),
        numbers: Numbers::default(),
        oldest: highest + 1,
        newest: highest,
        end: 0,
        last: Place { page: highest, offset: 0 },
        torn: false,
        closed: true,
        doubt: None,
        doubts: false,
        confirmed: None,
    };
    let mut replay =
        Replay { clock, live: 0, pending: [None; 3], doubt: None, overflow: false, counts: true, doubts: false };
    let Some((top, look)) = found else {
        return Ok((log, replay, Report { fresh: true, foreign: !blank, ..Report::default() }));
    };
    (log.oldest, log.newest) = (look.oldest.max((top + 1).saturating_sub(log.media.pages())), top);
    for page in log.oldest..=top {
        replay.counts = false;
        replay.reads(&mut log, page).await?;
    }
    replay.ends(&mut log);
    if replay.overflow && replay.live as usize > log.index.capacity() {
        return Err(OpenError::TooFewSlots { needed: replay.live });
    }
    let known = replay.doubt.map_or(0, |doubt| doubt.head.number).max(log.numbers.last);
    let lost = beyond.saturating_sub(known);
    if lost > 0 {
        log.numbers.last = beyond;
    }
    // A page behind it that was begun may turn out to count another time.
    log.closed = highest > top || starts(&mut log.media, top + 1).await?;
    Ok((log, replay, Report { lost, ..Report::default() }))
}

/// The highest number of a page, by the heads; 0 if there is none. And whether all are blank.
async fn highest_page<F: NorFlash>(media: &mut Media<F>) -> Result<(u32, bool), OpenError<F::Error>> {
    let (mut top, mut blank) = (0, true);
    for place in 0..media.pages() {
        let head = media.page_head(place).await?;
        blank &= head == PageHead::Blank;
        match head {
            PageHead::Page(page) if media.turn(page) == place => top = top.max(page),
            PageHead::Version(version) => return Err(OpenError::Version(version)),
            _ => {}
        }
    }
    Ok((top, blank))
}

/// Erases the pages ahead that were begun, for numbers come round to them: what is left of an outbox that cannot be
/// read any more, or of a page that was given up, would be taken for the log's own. The next page is erased when
/// it is begun.
async fn forgets_ahead<F: NorFlash>(log: &mut Log<'_, F>) -> Result<(), F::Error> {
    for page in log.newest + 2..log.oldest + log.media.pages() {
        if starts(&mut log.media, page).await? {
            // One that cannot be erased cannot be written either, and is tried again at the next start.
            let _ = log.media.erase(page).await;
        }
    }
    Ok(())
}

/// Whether page `page` was begun: its head is there, or its first state.
async fn starts<F: NorFlash>(media: &mut Media<F>, page: u32) -> Result<bool, F::Error> {
    let first = Place { page, offset: Media::<F>::FIRST };
    Ok(media.page_head(page).await? == PageHead::Page(page) || media.head(first).await?.is_some())
}

async fn look<F: NorFlash>(media: &mut Media<F>, page: u32) -> Result<Look, F::Error> {
    let mut look = Look { counts: false, highest: 0, oldest: page };
    let mut cursor = Cursor::new::<F>(page);
    while let Some(found) = cursor.next(media).await? {
        look.counts |= found.commits();
        match found.head.kind {
            Kind::State => look.oldest = State::parse(&found.body).oldest,
            Kind::Message => look.highest = look.highest.max(found.head.number),
            _ => {}
        }
    }
    Ok(look)
}

impl Found {
    /// Whether it makes its page count.
    fn commits(&self) -> bool {
        self.head.kind == Kind::Commit || self.head.kind == Kind::State && self.head.flags & COMMITS != 0
    }
}

impl Replay {
    async fn reads<F: NorFlash>(&mut self, log: &mut Log<'_, F>, page: u32) -> Result<(), F::Error> {
        let mut cursor = Cursor::new::<F>(page);
        while let Some(found) = cursor.next(&mut log.media).await? {
            self.counts |= found.commits();
            if found.head.kind == Kind::State {
                let after = State::parse(&found.body).after;
                for slot in &mut self.pending {
                    *slot = slot.filter(|pending| pending.place <= after);
                }
            }
            if let [Some(first), second, Some(third)] = self.pending {
                self.takes(log, &first, second.as_ref());
                self.pending = [second, Some(third), None];
            }
            let free = self.pending.iter().position(Option::is_none).unwrap_or(2);
            self.pending[free] = Some(found);
        }
        // The head of what was begun last may look as if nothing was written.
        log.end = cursor.used + Media::<F>::SMALL;
        Ok(())
    }

    /// The record in front of `next` is in effect, or doubtful.
    fn takes<F: NorFlash>(&mut self, log: &mut Log<'_, F>, found: &Found, next: Option<&Found>) {
        let doubts = |state: &Found| {
            (state.head.kind, state.head.flags & DOUBTS) == (Kind::State, DOUBTS)
                && State::parse(&state.body).after == found.place
        };
        if next.is_some_and(doubts) && may_be_doubtful(found) {
            self.doubt = Some(*found);
        } else {
            self.applies(log, found);
        }
    }

    /// There is nothing more.
    fn ends<F: NorFlash>(&mut self, log: &mut Log<'_, F>) {
        let mut before = log.last;
        while let [Some(found), next, _] = self.pending {
            self.pending = [next, self.pending[2], None];
            if next.is_some() {
                self.takes(log, &found, next.as_ref());
                before = found.place;
                continue;
            }
            let again = |doubt: &Found| (doubt.head.kind, doubt.head.number) == (found.head.kind, found.head.number);
            log.last = found.place;
            if found.head.kind == Kind::State {
                // It may be half written. The next one says what it says, in its place.
                log.last = State::parse(&found.body).after;
                self.doubts = found.head.flags & DOUBTS != 0;
                self.applies(log, &found);
            } else if self.doubt.as_ref().is_some_and(again) {
                // Written again, and that may be half done in turn: once more, from the first.
                log.last = before;
            } else if may_be_doubtful(&found) {
                self.doubt = Some(found);
            } else {
                self.applies(log, &found);
            }
        }
    }

    fn applies<F: NorFlash>(&mut self, log: &mut Log<'_, F>, found: &Found) {
        let head = &found.head;
        let number = head.number;
        self.doubt = self.doubt.filter(|doubt| (doubt.head.kind, doubt.head.number) != (head.kind, number));
        match head.kind {
            Kind::Message => return self.message(log, found),
            Kind::Drop => {
                log.numbers.last = log.numbers.last.max(number);
                log.index.remove(number, head.flags, log.holes());
            }
            Kind::Ack => {
                log.numbers.acked = log.numbers.acked.max(number);
                log.numbers.last = log.numbers.last.max(number);
                log.index.remove_through(log.numbers.acked);
            }
            Kind::Received => log.numbers.received = log.numbers.received.max(number),
            Kind::State => {
                // Without doubts, whatever was doubtful before has been given up.
                self.doubt = self.doubt.filter(|doubt| head.flags & DOUBTS != 0 || doubt.place > found.place);
                log.numbers = State::parse(&found.body).numbers;
                log.index.remove_through(log.numbers.acked);
            }
            // Its page's state has said it, and what was confirmed since has changed it.
            Kind::Commit => return,
        }
        self.live = head.live();
    }

    fn message<F: NorFlash>(&mut self, log: &mut Log<'_, F>, Found { place, head, body }: &Found) {
        if head.number <= log.numbers.acked {
            return;
        }
        let (flags, [app, instance, tag, _]) = (Flags(head.flags), head.extra);
        let channel = [app, instance, tag];
        let (seconds, range) = Prefix::parse(flags, body);
        let before = log.index.len();
        if let Some(range) = range {
            log.index.remove_range(range, flags.policy(), channel, log.holes());
            self.live = self.live.saturating_sub((before - log.index.len()) as u32);
        }
        let at = log.media.address(*place);
        let expires = flags.deadline(seconds, self.clock);
        let slot = Slot { number: head.number, at, expires, len: head.len, channel, flags, reason: 0 };
        self.overflow |= !log.index.insert(slot);
        // One that is behind `last` is new; others were moved, or written again.
        // Numbers have no holes when they are given: what is left out between was there.
        self.live = self.live.saturating_add(head.number.saturating_sub(log.numbers.last) as u32);
        log.numbers.last = log.numbers.last.max(head.number);
    }
}

/// Whether it matters that a record stays as it is. The others say nothing that is not said again in the
/// state behind them.
fn may_be_doubtful(found: &Found) -> bool {
    matches!(found.head.kind, Kind::Message | Kind::Drop)
}
