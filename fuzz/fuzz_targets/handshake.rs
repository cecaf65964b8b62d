//! The security layer: openings, answers and records against both ends. A changed handshake never
//! authenticates, a changed record never opens, and the true device's link goes on.

#![no_main]
#![allow(dead_code, reason = "the tests' own parts of their modules")]

#[path = "../../crates/bowline-secure/tests/secure/support.rs"]
mod support;

use std::cell::RefCell;

use bowline_fuzz::Choices;
use bowline_secure::{Carrier, Grant, Provision, Resumed, Ticket, check_versions, is_security_body};
use libfuzzer_sys::fuzz_target;

use crate::support::{Decided, Device, Link, Server, seal, unseal};

/// A server, a device, a link of theirs, and what the fuzzer may change.
struct World {
    server: Server,
    device: Device,
    link: Link,
    openings: [Vec<u8>; 2],
}

impl World {
    fn new(carrier: Carrier) -> Self {
        let mut server = Server::new(carrier);
        let mut device = server.device("kitchen", 1, 10);
        server.device("hall", 2, 11);
        server.registry.entry("open".into()).or_default().open = true;
        let link = device.connect_for_ticket(&mut server, Grant::default());
        let openings = [device.open().1, device.open_resumption(server.now).expect("a ticket").1];
        World { server, device, link, openings }
    }
}

thread_local! {
    // Made once: a handshake takes longer than everything else here. What an input changes in them must not matter.
    static WORLDS: RefCell<[World; 2]> = RefCell::new([World::new(Carrier::Lossless), World::new(Carrier::Lossy)]);
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    WORLDS.with_borrow_mut(|worlds| {
        let world = &mut worlds[choices.below(2)];
        match choices.below(6) {
            0 => as_opening(world, &mut choices),
            1 => as_changed_opening(world, &mut choices),
            2 => as_answer(world, &mut choices),
            3 => as_resumption_answer(world, &mut choices),
            4 => as_record(world, &mut choices),
            _ => as_lines(&mut choices),
        }
    });
});

/// The bytes with some changes, as the choices say.
fn changed(bytes: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..=choices.below(4) {
        if changed.is_empty() {
            break;
        }
        let at = choices.below(changed.len());
        match choices.below(6) {
            0 => changed[at] ^= 1 << choices.below(8),
            1 => changed[at] = choices.byte(),
            2 => changed.truncate(at),
            3 => drop(changed.splice(at..at, choices.bytes(8).iter().copied())),
            4 => drop(changed.drain(at..(at + 1 + choices.below(8)).min(changed.len()))),
            _ => {
                let end = (at + 16).min(changed.len());
                for byte in &mut changed[at..end] {
                    *byte = choices.byte();
                }
            }
        }
    }
    changed
}

/// Who is let in with bytes nobody with a key has made: the open device, and nobody else. An opening that a device has
/// made is no such bytes, and the fuzzer finds it in memory: who repeats it is answered, and gets no further (§15.1).
fn decide(world: &mut World, input: &[u8]) {
    if world.openings.iter().any(|opening| input.starts_with(opening)) {
        return;
    }
    let (decided, answer) = world.server.decide(input);
    assert!(answer.len() <= bowline_secure::MAX_ANSWER);
    assert!(input.len() < 160 || !matches!(decided, Decided::More), "undecided");
    match decided {
        Decided::Secured(id, ..) => panic!("{id} was let in by {input:02x?}"),
        Decided::Open(id) => assert_eq!(id, "open"),
        Decided::More | Decided::Foreign | Decided::Refused(_) | Decided::Again => {}
    }
}

fn as_opening(world: &mut World, choices: &mut Choices<'_>) {
    let head: &[u8] =
        choices.pick(&[b"", b"\0BWL\x01", b"\0BWL\x01\x01\x01\x07kitchen", b"\0BWL\x01\x02\x01\x07kitchen"]);
    decide(world, &[head, choices.rest()].concat());
}

fn as_changed_opening(world: &mut World, choices: &mut Choices<'_>) {
    let opening = world.openings[choices.below(2)].clone();
    let input = changed(&opening, choices);
    decide(world, &input);
}

fn as_answer(world: &mut World, choices: &mut Choices<'_>) {
    let (mut handshake, opening) = world.device.open();
    let (_, answer) = world.server.secured(&opening);
    let input = if choices.flag() { changed(&answer, choices) } else { choices.rest().to_vec() };
    let finished = handshake.finish(&input);
    if input.starts_with(&answer) {
        assert!(matches!(finished, Ok(Some((_, len))) if len == answer.len()));
    } else {
        assert!(!matches!(finished, Ok(Some(_))), "{input:02x?} was taken for {answer:02x?}");
    }
}

fn as_resumption_answer(world: &mut World, choices: &mut Choices<'_>) {
    world.device.ticket.is_none().then(|| world.device.connect_for_ticket(&mut world.server, Grant::default()));
    let Some((mut resumption, opening)) = world.device.open_resumption(world.server.now) else {
        // Used up: tickets are bounded in count (§15.5).
        world.device.connect_for_ticket(&mut world.server, Grant::default());
        return;
    };
    let (decided, answer) = world.server.decide(&opening);
    assert!(matches!(decided, Decided::Secured(..) | Decided::Again), "{decided:?}");
    let input = if choices.flag() { changed(&answer, choices) } else { choices.rest().to_vec() };
    let finished = resumption.finish(&input);
    if !input.starts_with(&answer) {
        assert!(!matches!(finished, Ok(Some((Resumed::Transport(_), _)))), "{input:02x?} was taken for {answer:02x?}");
    }
}

fn as_record(world: &mut World, choices: &mut Choices<'_>) {
    let link = &mut world.link;
    let upwards = choices.flag();
    let (from, to) = if upwards { (&mut link.device, &mut link.server) } else { (&mut link.server, &mut link.device) };
    let body = vec![9; 1 + choices.below(100)];
    let record = seal(from, &body);
    let input = if choices.flag() { changed(&record, choices) } else { choices.rest().to_vec() };
    if input != record {
        assert_eq!(unseal(to, &input), None, "{input:02x?} was taken for {record:02x?}");
    }
    assert_eq!(unseal(to, &record).as_deref(), Some(&body[..]), "the true one opens, whatever came before");
}

fn as_lines(choices: &mut Choices<'_>) {
    let (agreed, ours, theirs) = (choices.byte(), choices.byte(), choices.byte());
    assert_eq!(check_versions(agreed, ours, theirs).is_ok(), ours.min(theirs) == agreed);
    let input = choices.rest();
    assert_eq!(is_security_body(input), input.first().is_some_and(|first| first >> 4 == 2));
    let _ = Ticket::receive(input, bowline_proto::time::Instant::from_micros(u64::MAX));
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(provision) = Provision::parse(text)
    {
        let mut line = String::new();
        provision.write_secret(&mut line).expect("written into memory");
        // People type keys: small letters are read as large ones.
        let text = text.trim_end_matches(['\r', '\n']);
        assert!(line.eq_ignore_ascii_case(text), "read and written: {line} of {text}");
    }
}
