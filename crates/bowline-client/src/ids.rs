//! The instance ids of one app.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::channels::Queue;

/// All ids there are.
const IDS: usize = 256;

/// What the ids of one app are used for.
///
/// An id is given out again only when nothing can come any more for its earlier use, as far as that can be
/// known: those that were answered first, the longest unused before others; then those that are *owed* an
/// answer, after a quarantine.
#[derive(Debug)]
pub(crate) struct Ids {
    slots: Vec<Slot>,
    /// Those to be given out, the next one first. An id in here is [`Slot::Unused`] or [`Slot::Used`].
    free: VecDeque<u8>,
    /// Since when they have been owed an answer, the longest first. Entries of ids that are owed none any more are skipped.
    owed: VecDeque<(u8, Instant)>,
}

#[derive(Debug, Clone)]
enum Slot {
    /// Nothing was ever sent or received here: what comes is for the application.
    Unused,
    /// The application uses the id itself, by messages with headers of its own.
    Application,
    Open(Arc<Queue>),
    /// A channel that was closed, or a request whose answer has not come. `one`: it ends with the first message.
    Owed {
        since: Instant,
        one: bool,
    },
    /// Answered and closed.
    Used,
}

/// Whom a message is for.
pub(crate) enum Recipient {
    Channel(Arc<Queue>),
    Application,
    /// Nobody any more.
    Late,
}

/// What may still come for an id that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    Nothing,
    /// One answer.
    Answer,
    /// Whatever the app thinks of.
    Anything,
}

impl Ids {
    /// Ids are given out from `first` on: a random one, so that two lives of a device hardly begin with the same.
    pub(crate) fn new(app: u8, first: u8) -> Self {
        // The last id of the last app, with the last tag, is how dialect N says that there is no channel.
        let ids = (0..=u8::MAX).map(|step| first.wrapping_add(step)).filter(|&id| (app, id) != (u8::MAX, u8::MAX));
        Ids { slots: vec![Slot::Unused; IDS], free: ids.collect(), owed: VecDeque::new() }
    }

    /// An id that nobody uses; otherwise, when one may be free by the passing of time, if ever.
    pub(crate) fn claim(&mut self, queue: &Arc<Queue>, quarantine: Duration) -> Result<u8, Option<Instant>> {
        if let Some(id) = self.free.pop_front() {
            self.slots[usize::from(id)] = Slot::Open(Arc::clone(queue));
            return Ok(id);
        }
        while let Some(&(id, since)) = self.owed.front() {
            let slot = &mut self.slots[usize::from(id)];
            match slot {
                Slot::Owed { since: really, .. } if *really == since => {
                    if since.elapsed() < quarantine {
                        return Err(Some(since + quarantine));
                    }
                    self.owed.pop_front();
                    *slot = Slot::Open(Arc::clone(queue));
                    return Ok(id);
                }
                _ => {
                    self.owed.pop_front();
                }
            }
        }
        Err(None)
    }

    /// This very id, whatever it was used for before, unless it is open.
    pub(crate) fn claim_at(&mut self, id: u8, queue: &Arc<Queue>) -> bool {
        if matches!(self.slots[usize::from(id)], Slot::Open(_)) || !self.takes(id) {
            return false;
        }
        self.slots[usize::from(id)] = Slot::Open(Arc::clone(queue));
        true
    }

    /// The application sends or receives under this id itself.
    pub(crate) fn is_the_applications(&mut self, id: u8) {
        let slot = &mut self.slots[usize::from(id)];
        if !matches!(slot, Slot::Open(_) | Slot::Application) {
            *slot = Slot::Application;
            self.takes(id);
        }
    }

    /// Out of what is given out. Says whether it may be used at all.
    fn takes(&mut self, id: u8) -> bool {
        let was = self.free.len();
        self.free.retain(|&free| free != id);
        was > self.free.len() || !matches!(self.slots[usize::from(id)], Slot::Unused)
    }

    /// What was claimed is given back.
    pub(crate) fn release(&mut self, id: u8, rest: Rest) {
        let slot = &mut self.slots[usize::from(id)];
        if rest == Rest::Nothing {
            *slot = Slot::Used;
            self.free.push_back(id);
        } else {
            let since = Instant::now();
            *slot = Slot::Owed { since, one: rest == Rest::Answer };
            self.owed.push_back((id, since));
        }
        // What was settled meanwhile is not looked at before all ids are used: it must not pile up.
        if self.owed.len() > 2 * IDS {
            let slots = &self.slots;
            self.owed.retain(
                |(id, since)| matches!(&slots[usize::from(*id)], Slot::Owed { since: really, .. } if really == since),
            );
        }
    }

    /// Whom a message for `id` is for. Says also whether an id has become free by it.
    pub(crate) fn recipient(&mut self, id: u8) -> (Recipient, bool) {
        let slot = &mut self.slots[usize::from(id)];
        match slot {
            Slot::Open(queue) => (Recipient::Channel(Arc::clone(queue)), false),
            Slot::Owed { one: true, .. } => {
                *slot = Slot::Used;
                self.free.push_back(id);
                (Recipient::Late, true)
            }
            Slot::Owed { one: false, .. } | Slot::Used => (Recipient::Late, false),
            Slot::Application => (Recipient::Application, false),
            Slot::Unused => {
                self.is_the_applications(id);
                (Recipient::Application, false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARANTINE: Duration = Duration::from_secs(600);

    fn claim(ids: &mut Ids) -> Result<u8, Option<Instant>> {
        ids.claim(&Arc::default(), QUARANTINE)
    }

    #[tokio::test(start_paused = true)]
    async fn ids_go_round_and_what_is_owed_is_reused_last() {
        let mut ids = Ids::new(5, 250);
        let all: Vec<u8> = (0..256).map(|_| claim(&mut ids).unwrap()).collect();
        assert_eq!((all[0], all[6], all[255]), (250, 0, 249));
        assert_eq!(claim(&mut ids), Err(None), "all are open");
        ids.release(3, Rest::Answer);
        ids.release(9, Rest::Nothing);
        assert_eq!(claim(&mut ids), Ok(9));
        assert_eq!(claim(&mut ids), Err(Some(Instant::now() + QUARANTINE)));
        tokio::time::advance(QUARANTINE).await;
        assert_eq!(claim(&mut ids), Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_late_answer_ends_the_quarantine() {
        let mut ids = Ids::new(5, 0);
        assert!((0..256).all(|id| claim(&mut ids) == Ok(id as u8)));
        ids.release(3, Rest::Answer);
        ids.release(4, Rest::Anything);
        assert!(matches!(ids.recipient(3), (Recipient::Late, true)));
        assert!(matches!(ids.recipient(4), (Recipient::Late, false)));
        assert_eq!(claim(&mut ids), Ok(3));
        assert!(claim(&mut ids).is_err());
        ids.release(3, Rest::Nothing);
        assert!(matches!(ids.recipient(3), (Recipient::Late, false)), "a second answer is nobody's either");
    }

    #[test]
    fn what_the_application_uses_is_not_given_out() {
        let mut ids = Ids::new(5, 7);
        ids.is_the_applications(7);
        assert!(matches!(ids.recipient(8), (Recipient::Application, false)), "the server writes first");
        assert_eq!(claim(&mut ids), Ok(9));
        assert!(matches!(ids.recipient(7), (Recipient::Application, false)));
        assert!(
            ids.claim_at(7, &Arc::default()) && !ids.claim_at(7, &Arc::default()) && !ids.claim_at(9, &Arc::default())
        );
    }

    #[test]
    fn an_id_that_means_no_channel_is_none() {
        let mut ids = Ids::new(255, 0);
        assert!((0..255).all(|id| claim(&mut ids) == Ok(id)));
        assert_eq!(claim(&mut ids), Err(None));
        assert!(!ids.claim_at(255, &Arc::default()));
    }
}
