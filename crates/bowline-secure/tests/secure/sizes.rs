//! What a link costs in memory. A change here is a change of what fits on a board.

use bowline_secure::{Ephemeral, Gate, Handshake, KeyRing, Keyed, Resumption, Ticket, TicketSlot, Transport};

#[test]
fn states_are_small() {
    for (name, size, limit) in [
        ("Transport", size_of::<Transport>(), 104),
        ("Handshake", size_of::<Handshake>(), 600),
        ("Resumption", size_of::<Resumption>(), 72),
        ("Keyed", size_of::<Keyed>(), 72),
        ("Ticket", size_of::<Ticket>(), 56),
        ("TicketSlot", size_of::<TicketSlot>(), 104),
        ("KeyRing", size_of::<KeyRing>(), 72),
        ("Ephemeral", size_of::<Ephemeral>(), 64),
        ("Gate", size_of::<Gate>(), 2),
    ] {
        println!("{name}: {size} bytes");
        assert!(size <= limit, "{name} has {size} bytes, expected at most {limit}");
    }
}
