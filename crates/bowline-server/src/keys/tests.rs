//! What tickets there are, as keys come and go.

use bowline_secure::{Carrier, Decision, Ephemeral, Gate, Handshake, MAX_ANSWER, MAX_OPENING, Resumption};
use bowline_secure::{Standing, Ticket};

use super::*;

const DEVICES: usize = 10;

struct Device {
    key_id: KeyId,
    key: Key,
    ticket: Option<Ticket>,
}

fn today() -> Date {
    Date::from_unix(0)
}

fn id() -> DeviceId<'static> {
    DeviceId::new("d").unwrap()
}

/// What the registry decides on an opening.
fn decide(keys: &Keys, opening: &[u8], random: u8) -> (Option<Transport>, Vec<u8>) {
    let mut answer = [0; MAX_ANSWER];
    let standing = |id: DeviceId<'_>| Standing { keys: keys.ring(id.as_str()), ..Standing::default() };
    let decision = Gate::new(Carrier::Lossless).decide(
        opening,
        &std::array::from_fn(|at| at as u8 ^ random),
        keys.now(),
        standing,
        |asked| keys.redeem(asked),
        &mut answer,
    );
    match decision {
        Decision::Secured { transport, answer: len, .. } => (Some(transport), answer[..len].to_vec()),
        _ => (None, Vec::new()),
    }
}

impl Device {
    fn of(issued: &Issued) -> Self {
        Device { key_id: issued.key_id, key: issued.key.clone(), ticket: None }
    }

    /// A full handshake and a ticket, if there is one to be had.
    fn connects(&mut self, keys: &Keys) -> Option<Transport> {
        let mut out = [0; MAX_OPENING];
        let ephemeral = Ephemeral::new(&[7; 32]);
        let (mut handshake, len) =
            Handshake::start(id(), self.key_id, &self.key, ephemeral, Carrier::Lossless, &mut out).unwrap();
        let (server, answer) = decide(keys, &out[..len], 1);
        let (mut server, mut device) = (server?, handshake.finish(&answer).unwrap().unwrap().0);
        assert!(self.asks_for_ticket(keys, &server).is_none(), "not before it has shown that it is there");
        let mut record = [1; 17];
        device.seal(&mut record, 1).unwrap();
        server.open(&mut record).unwrap();
        self.ticket = self.asks_for_ticket(keys, &server);
        Some(server)
    }

    fn asks_for_ticket(&self, keys: &Keys, server: &Transport) -> Option<Ticket> {
        let mut random = [0; 40];
        getrandom::fill(&mut random).unwrap();
        let body = keys.ticket(id(), self.key_id, &self.key, server, DEVICES, &random)?;
        Some(Ticket::receive(&body, keys.now()).unwrap())
    }

    fn resumes(&mut self, keys: &Keys) -> bool {
        let mut out = [0; MAX_OPENING];
        let ticket = self.ticket.as_mut().unwrap();
        let started =
            Resumption::start(ticket, id(), self.key_id, &[3; 16], keys.now(), Carrier::Lossless, &mut out).unwrap();
        let (_, len) = started.unwrap();
        decide(keys, &out[..len], 2).0.is_some_and(|transport| transport.resumed())
    }
}

#[test]
fn a_ticket_goes_with_its_key() {
    let keys = Keys::default();
    let mut device = Device::of(&keys.issue("d", today()).unwrap());
    device.connects(&keys).unwrap();
    assert!(device.resumes(&keys));
    assert!(device.resumes(&keys));
    keys.revoke("d", None).unwrap();
    assert!(!device.resumes(&keys));
}

#[test]
fn a_key_made_anew_under_the_same_key_id_inherits_nothing() {
    let keys = Keys::default();
    let mut old = Device::of(&keys.issue("d", today()).unwrap());
    let link = old.connects(&keys).unwrap();
    let proof = Proof::Key(old.key_id, old.key.clone());
    assert!(keys.admit("d", &proof));
    keys.remove("d").unwrap();
    let mut new = Device::of(&keys.issue("d", today()).unwrap());
    assert_eq!(new.key_id, old.key_id);
    assert!(!old.resumes(&keys), "its ticket");
    assert!(!keys.admit("d", &proof), "its link");
    assert!(old.asks_for_ticket(&keys, &link).is_none(), "its next ticket");
    new.connects(&keys).unwrap();
    assert!(new.resumes(&keys));
}

#[test]
fn a_rotation_takes_the_old_keys_ticket() {
    let keys = Keys::default();
    let mut old = Device::of(&keys.issue("d", today()).unwrap());
    old.connects(&keys).unwrap();
    let mut new = Device::of(&keys.rotate("d", today()).unwrap());
    assert!(old.resumes(&keys), "both are in force");
    assert_eq!(keys.outdated_by("d", old.key_id), None);
    assert_eq!(keys.outdated_by("d", new.key_id), Some(old.key_id));
    assert_eq!(keys.retire_older("d", new.key_id).unwrap().revoked, [("d".to_owned(), old.key_id)]);
    assert!(!old.resumes(&keys));
    assert!(keys.retire_older("d", new.key_id).unwrap().is_empty());
    new.connects(&keys).unwrap();
    assert!(new.resumes(&keys));
}
