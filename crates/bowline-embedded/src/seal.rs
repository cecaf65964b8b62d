//! What seals a link's bodies: with the feature `keys` that of `bowline-secure`. Without it there is none: these types have no
//! values, so the compiler leaves out all that would handle one.

#[cfg(feature = "keys")]
pub(crate) use bowline_secure::{Ticket, Transport};

#[cfg(not(feature = "keys"))]
pub(crate) use none::{Ticket, Transport};

#[cfg(not(feature = "keys"))]
mod none {
    use bowline_proto::time::Instant;
    use bowline_secure::{OpenError, Protection, SealError, TicketError};

    pub(crate) enum Ticket {}

    impl Ticket {
        /// There is no seal under which one could have come.
        pub(crate) fn receive(_: &[u8], _: Instant) -> Result<Self, TicketError> {
            Err(TicketError)
        }
    }

    pub(crate) enum Transport {}

    impl Transport {
        pub(crate) fn seal(&mut self, _: &mut [u8], _: usize) -> Result<usize, SealError> {
            match *self {}
        }

        pub(crate) fn open<'b>(&mut self, _: &'b mut [u8]) -> Result<&'b mut [u8], OpenError> {
            match *self {}
        }

        pub(crate) const fn protection(&self) -> Protection {
            match *self {}
        }
    }
}
