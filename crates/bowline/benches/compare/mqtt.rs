//! MQTT 3.1.1, as far as a publisher needs it.

use std::collections::VecDeque;

use anyhow::{Result, bail};

use crate::load::{Heard, Peer};

pub(crate) struct Mqtt {
    qos: u8,
    id: u16,
    /// QoS 0: messages since the last ping.
    since_ping: usize,
    /// QoS 0: how many messages each ping that is on its way stands behind.
    pings: VecDeque<usize>,
    topic: String,
}

impl Mqtt {
    pub(crate) fn new(qos: u8) -> Self {
        Mqtt { qos, id: 0, since_ping: 0, pings: VecDeque::new(), topic: String::new() }
    }
}

impl Peer for Mqtt {
    fn hello(&mut self, device: u32, out: &mut Vec<u8>) {
        let id = format!("bench-{device}");
        self.topic = format!("bench/{device}");
        // Clean session, no keepalive.
        out.extend_from_slice(&[0x10, 12 + id.len() as u8, 0, 4]);
        out.extend_from_slice(b"MQTT\x04\x02\0\0\0");
        out.push(id.len() as u8);
        out.extend_from_slice(id.as_bytes());
    }

    fn publish(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        out.push(0x30 | (self.qos << 1));
        let id = if self.qos > 0 { 2 } else { 0 };
        let mut len = 2 + self.topic.len() + id + payload.len();
        while len > 0 {
            out.push((len & 0x7f) as u8 | if len > 0x7f { 0x80 } else { 0 });
            len >>= 7;
        }
        out.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if self.qos > 0 {
            // More are never on their way than fit.
            self.id = self.id % 0x7fff + 1;
            out.extend_from_slice(&self.id.to_be_bytes());
        } else {
            self.since_ping += 1;
        }
        out.extend_from_slice(payload);
    }

    /// QoS 0 has no acknowledgements: a ping says when all before it was read.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if self.qos == 0 {
            self.pings.push_back(std::mem::take(&mut self.since_ping));
            out.extend_from_slice(&[0xc0, 0]);
        }
    }

    fn heard(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Heard> {
        let [kind, len, rest @ ..] = input else { return Ok(Heard::Part) };
        let len = usize::from(*len);
        if rest.len() < len {
            return Ok(Heard::Part);
        }
        let acked = match (kind, &rest[..len]) {
            (0x20, [_, 0]) => 0,
            (0x40 | 0x70, _) => 1,
            (0x50, id) => {
                out.extend_from_slice(&[0x62, 2]);
                out.extend_from_slice(id);
                0
            }
            (0xd0, _) => self.pings.pop_front().unwrap_or(0),
            (kind, body) => bail!("a packet of type {kind:02x} that was not expected: {body:02x?}"),
        };
        Ok(Heard::Bytes(2 + len, acked))
    }
}
