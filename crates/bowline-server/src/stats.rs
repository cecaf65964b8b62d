//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the server started. Nothing is refused without being counted here or in a
        /// device's [`Ledger`](crate::Ledger).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// [`Stats`] while they are counted.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }

        impl Stats {
            /// Names and values, in the order of documentation.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

stats! {
    /// Connections accepted.
    connections,
    /// Logins that made a link.
    logins,
    /// Among them: native, with a full handshake.
    native_sealed,
    /// Among them: native, resumed.
    native_resumed,
    /// Among them: native, with a key and without encryption.
    native_keyed,
    /// Among them: native, without a key.
    native_open,
    /// Links ended because keys were changed: theirs was revoked, or their id got one.
    revoked_links,
    /// Links that were up when a newer login of the same device replaced them.
    takeovers,
    /// Takeovers without a key, from another address than the link before: on an open network an impostor
    /// looks like this.
    takeovers_from_elsewhere,
    /// Refused: no login line within the login timeout.
    refused_timeout,
    /// Refused: closed before a login line was complete.
    refused_closed,
    /// Refused: made room for newer connections before it logged in.
    refused_evicted,
    /// Refused: a first line longer than a login can be.
    refused_too_long,
    /// Refused: an empty line, or one that is no device id.
    refused_malformed,
    /// Refused: an HTTP request.
    refused_http,
    /// Refused: begins as the native protocol does, and goes on as something else.
    refused_opening,
    /// Refused: another version of the native protocol.
    refused_version,
    /// Refused: an unknown id, or a key that is wrong, unknown or revoked.
    refused_key,
    /// Refused: came without a key under an id that has or had one, in whatever dialect.
    refused_keyed,
    /// Refused: came without a key where one is asked for.
    refused_not_open,
    /// Refused: a right key, without encryption, under an id that has to encrypt.
    refused_unencrypted,
    /// Refused: more handshakes from one address than allowed.
    refused_handshakes,
    /// Refused: an opening without a first record that fits it. A recording looks like this.
    refused_unconfirmed,
    /// Refused: the system gave no random bytes.
    refused_no_random,
    /// Refused: an id that is neither expected nor allowed.
    refused_unknown_id,
    /// Refused: a dialect that is switched off.
    refused_dialect,
    /// Refused: as many devices are known as may be.
    refused_too_many_devices,
    /// Refused: as many devices have links as may.
    refused_too_many_links,
    /// Refused: what is stored for the device is damaged.
    refused_damaged,
    /// Times accepting paused for want of file descriptors or memory.
    accept_pauses,
    /// Messages whose header names no app; the qos ones became dead letters.
    messages_without_app,
    /// Messages for an app that their device may not use; the qos ones became dead letters.
    messages_not_allowed,
    /// Messages that would have made one more instance than a device may have; the qos ones became dead letters.
    messages_without_instance,
    /// Temporary devices forgotten.
    expired_devices,
    /// Messages queued for or from devices when those were forgotten.
    expired_messages,
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
