//! A server of dialect H by hand: what servers of the reference say to a board, and worse.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

pub(super) struct Legacy {
    listener: TcpListener,
    link: Option<BufReader<TcpStream>>,
}

impl Legacy {
    pub(super) fn opens() -> Self {
        Legacy { listener: TcpListener::bind("127.0.0.1:0").unwrap(), link: None }
    }

    pub(super) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The board's next link, and its login. It is up with the keepalive that answers it.
    pub(super) fn accepts(&mut self) {
        let (link, _) = self.listener.accept().unwrap();
        link.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        self.link = Some(BufReader::new(link));
        assert!(self.hears().starts_with("2c00ff"), "a login");
        self.says("");
    }

    pub(super) fn says(&mut self, line: &str) {
        self.says_bytes(format!("{line}\n").as_bytes());
    }

    pub(super) fn says_bytes(&mut self, bytes: &[u8]) {
        self.link.as_mut().expect("a link").get_mut().write_all(bytes).unwrap();
    }

    /// The next line that is no keepalive.
    pub(super) fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.link.as_mut().expect("a link").read_line(&mut line).expect("the board says something");
            assert!(line.ends_with('\n'), "the board has closed: {line:?}");
            if line != "\n" {
                return line.trim_end().to_owned();
            }
        }
    }

    pub(super) fn cuts(&mut self) {
        self.link = None;
    }
}
