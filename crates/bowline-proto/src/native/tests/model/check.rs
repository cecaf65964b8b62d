//! What must hold in every state, and what must be reached in some.

use std::vec::Vec;

use stateright::Property;

use super::node::{Keeps, Node};
use super::world::{Small, World};

/// More steps than healing takes in any world explored here.
const PATIENCE: usize = 400;

pub(super) fn properties(small: &Small) -> Vec<Property<Small>> {
    let budget = small.budget;
    let mut properties = std::vec![
        Property::always("exactly once and in order to the server (P1)", |_, world: &World| to_server(world).is_some()),
        Property::always("exactly once and in order to the device (P1)", |_, world: &World| to_device(world).is_some()),
        Property::always("nothing is acknowledged that is not stored (P3)", |_, world: &World| acks_are_true(world)),
        Property::always("neither end breaks the protocol", |_, world: &World| !world.seen.broken),
        Property::always("only who was set back is quarantined", |_, world: &World| {
            world.restored || !world.seen.quarantined
        }),
        Property::always("when faults end, everything arrives (P2)", |_, world: &World| heals(world)),
        Property::sometimes("everything is delivered and acknowledged", |_, world: &World| {
            world.left.messages == [0, 0] && is_done(world)
        }),
    ];
    if budget.takeovers > 0 {
        properties.push(Property::sometimes("a link is replaced", |_, world: &World| world.seen.replaced));
    }
    if budget.restores == [0, 0] && small.device == Keeps::Everything {
        properties.push(Property::sometimes("a message is sent again", |_, world: &World| {
            world.device.session.counters().resent + world.server.session.counters().resent > 0
        }));
    }
    if budget.restores != [0, 0] {
        properties.push(Property::sometimes("who was set back is quarantined", |_, world: &World| {
            world.restored && world.seen.quarantined
        }));
    }
    if small.device == Keeps::Nothing && budget.restores[0] > 0 {
        properties.push(Property::sometimes("an epoch goes back", |_, world: &World| epoch_went_back(world)));
        properties.push(Property::always("an epoch that goes back is quarantined", |_, world: &World| {
            !epoch_went_back(world) || healed(world).seen.quarantined
        }));
    }
    if small.device == Keeps::Outbox {
        properties.push(Property::sometimes("a volatile device skips", |_, world: &World| {
            world.device.session.counters().skipped > 0
        }));
    }
    properties
}

fn epoch_went_back(world: &World) -> bool {
    // Epoch 0 is none yet: a new device.
    let device = world.device.session.epoch();
    world.restored && device > 0 && device < world.server.session.epoch()
}

/// How many messages of the device's last life are in the server's inbox; `None` if anything there is doubled,
/// out of order or made up. Of a life that is over the inbox has the beginning.
fn to_server(world: &World) -> Option<u8> {
    let mut expected = (0, 0);
    for &(life, number) in &world.server.disk.inbox {
        if life > expected.0 {
            expected = (life, 0);
        }
        if (life, number) != expected {
            return None;
        }
        expected.1 += 1;
    }
    let is_last = expected.0 == world.device.life;
    (!is_last || expected.1 <= world.device.disk.accepted).then_some(if is_last { expected.1 } else { 0 })
}

/// How many messages the device has had, over all its lives. A life that does not know what the one before
/// had may begin with some of that, and never behind it.
fn to_device(world: &World) -> Option<u8> {
    let node = &world.device;
    let mut reached = 0;
    for inbox in node.past.iter().chain([&node.disk.inbox]) {
        let Some(&(_, first)) = inbox.first() else { continue };
        let starts = if node.keeps == Keeps::Everything { first == reached } else { first <= reached };
        let in_order = inbox.iter().zip(first..).all(|(message, number)| *message == (0, number));
        if !starts || !in_order {
            return None;
        }
        reached = reached.max(first + inbox.len() as u8);
    }
    (reached <= world.server.disk.accepted).then_some(reached)
}

/// What has left an outbox stands in the other end's inbox, on disk.
fn acks_are_true(world: &World) -> bool {
    let device = || {
        let acked = world.device.disk.accepted as usize - world.device.outbox.len();
        usize::from(to_server(world).unwrap_or(0)) >= acked
    };
    let server = || {
        let acked = world.server.disk.accepted as usize - world.server.outbox.len();
        usize::from(to_device(world).unwrap_or(0)) >= acked
    };
    // An end that was set back no longer knows what it has sent and what was acknowledged.
    world.restored || (device() && server())
}

fn is_done(world: &World) -> bool {
    let idle = |node: &Node| node.outbox.is_empty() && node.waiting.is_empty();
    idle(&world.device)
        && idle(&world.server)
        && to_server(world) == Some(world.device.disk.accepted)
        && to_device(world) == Some(world.server.disk.accepted)
}

/// From here on nothing goes wrong. Is everything delivered then, or the quarantine there that an end which was set
/// back must meet with?
fn heals(world: &World) -> bool {
    let healed = healed(world);
    is_done(&healed) || (world.restored && (healed.seen.quarantined || is_set_back_unnoticed(&healed)))
}

/// Whatever is possible has happened, and a device without a link has opened one.
fn healed(world: &World) -> World {
    let mut world = world.clone();
    let mut actions = Vec::new();
    let mut connections = 0;
    for _ in 0..PATIENCE {
        actions.clear();
        world.quiet_actions(&mut actions);
        if let Some(action) = actions.first() {
            world.does(*action);
        } else if world.device.links.is_empty()
            && connections < 4
            && (!is_done(&world) || (world.restored && connections == 0))
        {
            connections += 1;
            world.connects();
        } else {
            return world;
        }
    }
    world
}

/// Set back to before something that no outbox holds any more, and nobody can know of.
fn is_set_back_unnoticed(world: &World) -> bool {
    world.device.outbox.is_empty() && world.server.outbox.is_empty() && world.device.waiting.is_empty()
}
