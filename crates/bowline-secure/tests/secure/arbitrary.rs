//! Any bytes, any config: no panic, nothing let in, every buffer kept to.

use bowline_secure::{Carrier, Grant, Provision, Resumed, SealError, Ticket, check_versions, is_security_body};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Decided, Server, key_id, seal};

/// Bytes that often begin as an opening or an answer does.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        Just(vec![]),
        Just(vec![0, b'B', b'W', b'L', 1]),
        (0..5u8, 0..3u8, 0..100u8).prop_map(|(mode, key, len)| vec![0, b'B', b'W', b'L', 1, mode, key, len]),
        (0..4u8, 0..50u8).prop_map(|(verdict, len)| vec![0, b'B', b'W', b'L', 1, verdict, len]),
        Just(vec![0, b'B', b'W', b'L', 1, 1, 1, 1, b'd']),
        Just(vec![0, b'B', b'W', b'L', 1, 2, 1, 1, b'd']),
        Just(vec![0, b'B', b'W', b'L', 1, 3, 1, 1, b'd']),
    ];
    (head, prop_oneof![vec(any::<u8>(), 0..200), vec(Just(b'a'), 0..200)])
        .prop_map(|(head, tail)| [head, tail].concat())
}

fn carrier() -> impl Strategy<Value = Carrier> {
    prop_oneof![Just(Carrier::Lossless), Just(Carrier::Lossy)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn as_an_opening(inputs in vec(bytes(), 20), carrier in carrier()) {
        let mut server = Server::new(carrier);
        server.device("d", 1, 1);
        for input in inputs {
            let (decided, answer) = server.decide(&input);
            prop_assert!(!matches!(decided, Decided::Secured(..) | Decided::Open(_)));
            prop_assert!(answer.len() <= bowline_secure::MAX_ANSWER);
            // §8.2: within 160 bytes there is always a decision.
            prop_assert!(input.len() < 160 || !matches!(decided, Decided::More));
        }
    }

    /// What the codec says of bytes, the server answers.
    #[test]
    fn an_opening_is_decided_on_as_it_is_read(inputs in vec(bytes(), 50)) {
        use bowline_proto::native::wire::{Opening, OpeningError};
        let mut server = Server::new(Carrier::Lossless);
        for input in &inputs {
            let (decided, _) = server.decide(input);
            let agree = match Opening::parse(input) {
                Ok(None) => matches!(decided, Decided::More),
                Ok(Some((opening, _))) => match opening.mode.handshake_len() {
                    0 => matches!(decided, Decided::Refused(8)),
                    48 | 32 => matches!(decided, Decided::Refused(9)),
                    _ => matches!(decided, Decided::Again),
                },
                Err(OpeningError::Magic) => matches!(decided, Decided::Foreign),
                Err(OpeningError::Version(_)) => matches!(decided, Decided::Refused(7)),
                Err(OpeningError::Mode(_)) => matches!(decided, Decided::Refused(2 | 8)),
                Err(_) => matches!(decided, Decided::Refused(2)),
            };
            prop_assert!(agree, "{:?} of {:02x?}", decided, input);
        }
    }

    #[test]
    fn as_an_answer(inputs in vec(bytes(), 20)) {
        let mut server = Server::new(Carrier::Lossless);
        let mut device = server.device("d", 1, 1);
        device.connect_for_ticket(&mut server, Grant::default());
        let (mut handshake, _) = device.open();
        let (mut resumption, _) = device.open_resumption(server.now).unwrap();
        let (mut keyed, _) = device.open_keyed();
        for input in inputs {
            prop_assert!(!matches!(handshake.finish(&input), Ok(Some(_))));
            prop_assert!(!matches!(keyed.finish(&input), Ok(Some(_))));
            let got = resumption.finish(&input);
            prop_assert!(!matches!(got, Ok(Some((Resumed::Transport(_), _)))));
        }
    }

    #[test]
    fn as_records(records in vec(bytes(), 1..40), carrier in carrier()) {
        let mut server = Server::new(carrier);
        let mut device = server.device("d", 1, 1);
        for mut link in [device.connect(&mut server), device.connect_keyed(&mut server)] {
            for record in &records {
                prop_assert!(link.server.open(&mut record.clone()).is_err());
            }
            link.assert_works();
        }
    }

    #[test]
    fn sealing_keeps_to_its_buffer(
        sizes in vec((0..100usize, prop_oneof![0..120usize, Just(usize::MAX)]), 30),
        carrier in carrier(),
        keyed in any::<bool>(),
    ) {
        let mut server = Server::new(carrier);
        let mut device = server.device("d", 1, 1);
        let mut link = if keyed { device.connect_keyed(&mut server) } else { device.connect(&mut server) };
        for (size, len) in sizes {
            let mut buffer = vec![0xaa; size];
            let needed = len.saturating_add(carrier.overhead());
            let sealed = link.device.seal(&mut buffer, len);
            if len == 0 || needed > size {
                let error = if len == 0 { SealError::Empty } else { SealError::Buffer { needed, got: size } };
                prop_assert_eq!(sealed, Err(error));
                prop_assert_eq!(buffer, vec![0xaa; size]);
            } else {
                prop_assert_eq!(sealed, Ok(needed));
                prop_assert_eq!(&buffer[needed..], &vec![0xaa; size - needed][..]);
                prop_assert_eq!(link.server.open(&mut buffer[..needed]).map(|body| body.len()), Ok(len));
            }
        }
    }

    #[test]
    fn as_tickets_lines_and_versions(input in vec(any::<u8>(), 0..60), text in ".{0,80}", a: u8, b: u8, c: u8) {
        let _ = Ticket::receive(&input, bowline_proto::time::Instant::from_micros(u64::MAX));
        prop_assert_eq!(is_security_body(&input), input.first().is_some_and(|first| first >> 4 == 2));
        prop_assert!(Provision::parse(&text).is_err());
        let line = format!("bowline1:{a}:{text}");
        prop_assert!(Provision::parse(&line).is_err());
        prop_assert_eq!(check_versions(a, b, c).is_ok(), b.min(c) == a);
    }
}

#[test]
fn the_largest_body_there_is() {
    for carrier in [Carrier::Lossless, Carrier::Lossy] {
        let mut server = Server::new(carrier);
        let mut device = server.device("d", 255, 1);
        assert_eq!(device.key_id, key_id(255));
        let mut link = device.connect(&mut server);
        let body: Vec<u8> = (0..65_519u32).map(|n| n as u8).collect();
        let mut sealed = seal(&mut link.device, &body);
        assert_eq!(link.server.open(&mut sealed).unwrap(), body);
    }
}
