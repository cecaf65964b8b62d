//! Who has broken the promise of QoS 2, by what was said on the wire.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use super::tape::{By, Entry, Packet};

fn of<'a, 'b>(tape: &'a [Entry], client: &'b str) -> impl Iterator<Item = &'a Entry> + use<'a, 'b> {
    tape.iter().filter(move |entry| entry.client == client)
}

/// A client's part as one who has a session: it does not give it up when there is something in it.
pub(crate) fn has_kept_its_session(tape: &[Entry], client: &str) -> Result<(), String> {
    let mut since = of(tape, client).skip_while(|entry| !matches!(entry.packet, Packet::Publish { .. }));
    match since.find(|entry| entry.packet == Packet::Connect { clean: true }) {
        Some(entry) => Err(format!("{client} has given up its session: {entry:?}")),
        None => Ok(()),
    }
}

/// A client's part as the one who publishes: it has published this, in this order, each under one id until the broker has
/// completed it.
///
/// It is repeated, and marked as repeated, until the broker has received it; from then on only its release is. When the
/// broker has forgotten the session, what was not complete is published anew.
pub(crate) fn has_published(tape: &[Entry], client: &str, sent: &[String]) -> Result<(), String> {
    struct Open<'a> {
        payload: &'a str,
        received: bool,
        released: bool,
    }
    let mut open: HashMap<u16, Open<'_>> = HashMap::new();
    let mut next = 0;
    for entry in of(tape, client) {
        let wrong = |what: &str| Err(format!("{client} {what}: {entry:?}"));
        match (entry.by, &entry.packet) {
            (By::Broker, Packet::ConnAck { remembers: false }) => {
                next -= open.len();
                open.clear();
            }
            (By::Client, Packet::Publish { id, again: false, payload, .. }) => {
                if sent.get(next) != Some(payload) {
                    return wrong("publishes what is not next");
                }
                next += 1;
                if open.insert(*id, Open { payload, received: false, released: false }).is_some() {
                    return wrong("takes an id that is in use");
                }
            }
            (By::Client, Packet::Publish { id, again: true, payload, .. }) => match open.get(id) {
                Some(open) if open.payload == payload && !open.released => {}
                _ => return wrong("repeats what is not under way"),
            },
            (By::Broker, Packet::PubRec(id)) => {
                if let Some(open) = open.get_mut(id) {
                    open.received = true;
                }
            }
            (By::Client, Packet::PubRel(id)) => match open.get_mut(id) {
                Some(open) if open.received => open.released = true,
                // The broker has received once more what is complete.
                None => {}
                Some(_) => return wrong("releases what the broker has not received"),
            },
            (By::Broker, Packet::PubComp(id)) => {
                open.remove(id);
            }
            _ => {}
        }
    }
    if next != sent.len() || !open.is_empty() {
        return Err(format!("{client} has published {next} of {}, and {} are not complete", sent.len(), open.len()));
    }
    Ok(())
}

/// A client's part as the one who receives: it has heard what the broker has begun to send, once for each time that it was
/// begun, in that order.
///
/// A publication begins when its id comes, and is over when its release has come. Whatever comes with its id in between is
/// the same one. What a client has read of what came last on a connection is not known, unless it has answered.
pub(crate) fn has_heard(tape: &[Entry], client: &str, heard: &[String]) -> Result<(), String> {
    let begun = begun(tape, client);
    // How much of what was heard may be accounted for by what was begun so far.
    let mut accounted = BTreeSet::from([0]);
    for (payload, sure) in &begun {
        let with = |at: &usize| heard.get(*at).is_some_and(|heard| heard == payload).then_some(at + 1);
        let with: Vec<usize> = accounted.iter().filter_map(with).collect();
        if *sure {
            accounted.clear();
        }
        accounted.extend(with);
    }
    if !accounted.contains(&heard.len()) {
        return Err(format!("{client} was sent, and has taken (or may have): {begun:?}, and has heard: {heard:?}"));
    }
    Ok(())
}

/// A client has answered all that the broker's last process has sent.
pub(crate) fn has_answered(tape: &[Entry], client: &str) -> Result<(), String> {
    let last = tape.last().map_or(0, |entry| entry.life);
    let mut waiting = HashMap::new();
    for entry in of(tape, client).filter(|entry| entry.life == last) {
        match (entry.by, &entry.packet) {
            (By::Broker, Packet::Publish { id, payload, .. }) => drop(waiting.insert(*id, payload)),
            (By::Client, Packet::PubRec(id)) => drop(waiting.remove(id)),
            _ => {}
        }
    }
    if waiting.is_empty() { Ok(()) } else { Err(format!("{client} has not answered {waiting:?}")) }
}

/// What the broker has begun to send to a client, and whether the client has said that it has it.
pub(crate) fn begun<'a>(tape: &'a [Entry], client: &str) -> Vec<(&'a str, bool)> {
    struct Open {
        number: usize,
        /// The client may take it for the one before it.
        may_be_old: bool,
        taken: bool,
        may_be_over: bool,
    }
    let mut begun: Vec<(&str, bool)> = Vec::new();
    let mut open: HashMap<u16, Open> = HashMap::new();
    for entry in of(tape, client) {
        match (entry.by, &entry.packet) {
            (By::Broker, Packet::ConnAck { remembers: false }) => {
                open.values_mut().for_each(|open| open.may_be_over = true);
            }
            (By::Broker, Packet::Publish { id, again, payload, .. }) => {
                let before = open.get(id);
                let same = |open: &Open| open.taken || (*again && begun[open.number].0 == payload);
                if before.is_some_and(|open| !open.may_be_over && same(open)) {
                    continue;
                }
                let may_be_old = before.is_some();
                begun.push((payload, false));
                open.insert(*id, Open { number: begun.len() - 1, may_be_old, taken: false, may_be_over: false });
            }
            (By::Client, Packet::PubRec(id)) => {
                if let Some(open) = open.get_mut(id) {
                    begun[open.number].1 |= !open.may_be_old;
                    open.taken = true;
                }
            }
            (By::Broker, Packet::PubRel(id)) => {
                if let Some(open) = open.get_mut(id) {
                    open.may_be_over = true;
                }
            }
            (By::Client, Packet::PubComp(id)) => {
                open.remove(id);
            }
            _ => {}
        }
    }
    begun
}

/// The client has answered the release of a publication with this payload.
pub(crate) fn is_over(tape: &[Entry], client: &str, payload: &str) -> bool {
    let mut of_client = of(tape, client);
    let sent = |entry: &Entry| match &entry.packet {
        Packet::Publish { id, payload: what, .. } if entry.by == By::Broker && what == payload => Some(*id),
        _ => None,
    };
    let id = of_client.find_map(sent);
    id.is_some_and(|id| of_client.any(|entry| entry.by == By::Client && entry.packet == Packet::PubComp(id)))
}

/// What the broker has said of a publication: that it has received or completed it, that it sends or releases it, or what
/// else it last sent under the same id before.
pub(crate) fn words<'a>(tape: &'a [Entry], from: &str, to: &str, payload: &str) -> Vec<&'a Entry> {
    let mut words = Vec::new();
    // What the ids stand for at the time.
    let (mut sending, mut receiving) = (HashSet::new(), HashMap::<u16, Vec<&Entry>>::new());
    for entry in tape {
        let (is_sender, is_receiver) = (entry.client == from, entry.client == to);
        match (entry.by, &entry.packet) {
            (By::Client, Packet::Publish { id, payload: what, .. }) if is_sender => {
                if what == payload {
                    sending.insert(*id)
                } else {
                    sending.remove(id)
                };
            }
            (By::Broker, Packet::PubRec(id) | Packet::PubComp(id)) if is_sender && sending.contains(id) => {
                words.push(entry);
            }
            (By::Broker, Packet::Publish { id, payload: what, .. }) if is_receiver => {
                let said = receiving.entry(*id).or_default();
                if what == payload {
                    words.append(said);
                    words.push(entry);
                } else {
                    *said = vec![entry];
                }
            }
            (By::Broker, Packet::PubRel(id)) if is_receiver => receiving.entry(*id).or_default().push(entry),
            _ => {}
        }
    }
    words
}

/// What was said of a publication, by anybody, and when the broker had written last before each of its ends.
pub(crate) fn story(tape: &[Entry], payload: &str, saved: &[Option<SystemTime>]) -> String {
    let ms = |at: SystemTime| at.duration_since(tape[0].at).map_or(0.0, |at| at.as_secs_f64() * 1000.0);
    let mut told = String::new();
    let mut ids: HashSet<(&str, u16)> = HashSet::new();
    let mut life = 0;
    for Entry { at, client, life: at_life, by, packet, .. } in tape {
        while life < *at_life {
            let written = saved[life].map_or("never".to_owned(), |at| format!("at {:.1} ms", ms(at)));
            let _ = writeln!(told, "              killed; it had written {written}");
            life += 1;
        }
        let concerns = match packet {
            Packet::Publish { id, payload: what, .. } => {
                let same = what == payload;
                if same {
                    ids.insert((client, *id))
                } else {
                    ids.remove(&(client.as_str(), *id))
                };
                same
            }
            Packet::PubRec(id) | Packet::PubRel(id) | Packet::PubComp(id) => ids.contains(&(client.as_str(), *id)),
            Packet::ConnAck { .. } => true,
            Packet::Connect { .. } | Packet::Other => false,
        };
        if concerns {
            let _ = writeln!(told, "{:9.1} ms {by:?} ({client}): {packet:?}", ms(*at));
        }
    }
    told
}
