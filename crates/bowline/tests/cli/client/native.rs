//! A server of dialect N by hand: what a real one says only at the worst of moments.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::boots;

const ANSWER: &[u8] = b"\x00BWL\x01\x00\x00";

/// A new epoch, 1: keepalive 1000 ms, largest body 2048, credit for 32 messages and 8192 bytes.
const WELCOME: &[u8] = b"\x02\x01\x01\x00\x01\x43\xe8\x48\x00\0\0\0\0\x20\x60\x00";

/// The board's next link, answered; and the body of its HELLO.
fn accepts(listener: &TcpListener) -> (TcpStream, Vec<u8>) {
    let (mut link, _) = listener.accept().unwrap();
    link.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut opening = [0; 15];
    link.read_exact(&mut opening).unwrap();
    assert_eq!(&opening, b"\x00BWL\x01\x00\x00\x07kitchen");
    link.write_all(ANSWER).unwrap();
    let hello = hears(&mut link);
    (link, hello)
}

fn hears(link: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    link.read_exact(&mut length).unwrap();
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    link.read_exact(&mut body).unwrap();
    body
}

fn says(link: &mut TcpStream, body: &[u8]) {
    link.write_all(&u16::try_from(body.len()).unwrap().to_be_bytes()).unwrap();
    link.write_all(body).unwrap();
}

/// §10.3: the epoch was stored at the board, and its START never came.
#[test]
fn an_epoch_whose_start_was_lost_is_taken_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let Some(mut board) = boots(&address, "kitchen", &["dialect=N"]) else { return };
    board.does("qos 7");
    let (mut link, hello) = accepts(&listener);
    assert_eq!(hello[3], 0, "no epoch yet");
    says(&mut link, WELCOME);
    drop(link);
    let (mut link, hello) = accepts(&listener);
    assert_eq!(hello[3], 1, "the one it was offered");
    says(&mut link, WELCOME);
    assert_eq!(hears(&mut link)[..6], *b"\x03\x01\0\0\0\x01", "START: nothing has happened, one message waits");
    assert_eq!(hears(&mut link), b"\x11\0\x01\xff\xff\xff\x017");
    says(&mut link, b"\x14\x01\0\x20\x60\x00");
    board.reports("acked 1");
}

/// §11.1, §11.2: a server that skips a message, or sends more than there is room for, is not believed.
#[test]
fn a_seq_that_is_not_the_next_and_one_beyond_the_credit_end_the_link() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let Some(mut board) = boots(&address, "kitchen", &["dialect=N", "deaf=1", "queue=2"]) else { return };
    for (seqs, code) in [(&[2][..], 2), (&[1, 2, 3][..], 4)] {
        let (mut link, hello) = accepts(&listener);
        // The first epoch again: nothing has happened in it.
        let mut welcome = WELCOME.to_vec();
        welcome[4] = hello[3] + 1;
        says(&mut link, &welcome);
        hears(&mut link);
        let mut body = Vec::new();
        for seq in seqs {
            body.extend([0x10, 0, *seq, 0xff, 0xff, 0xff, 1, b'5']);
        }
        says(&mut link, &body);
        let mut last = hears(&mut link);
        while last[0] != 0x1f {
            last = hears(&mut link);
        }
        assert_eq!(last[1], code);
    }
    board.does("read");
    assert_eq!(board.reports("got"), "- 5");
}
