//! The session on H, U and P, for those who speak one of them.

use std::ops::{Deref, DerefMut};

use bowline_proto::{Side, legacy};

/// As it is before anything was said. What is read there is the same for every device.
static UNUSED: [legacy::Session; 4] = [
    legacy::Session::new(Side::Device),
    legacy::Session::durable(Side::Device),
    legacy::Session::new(Side::Server),
    legacy::Session::durable(Side::Server),
];

/// A [`legacy::Session`], which takes more than a kilobyte: it is made when it is first written to, and a device that
/// speaks N only has none.
#[derive(Debug)]
pub(crate) struct LinesSession {
    side: Side,
    durable: bool,
    used: Option<Box<legacy::Session>>,
}

impl LinesSession {
    pub(super) const fn new(side: Side, durable: bool) -> Self {
        LinesSession { side, durable, used: None }
    }

    /// Goes on with what was stored, if something was.
    pub(super) fn restored(side: Side, session: Option<legacy::Session>) -> Self {
        LinesSession { side, durable: true, used: session.map(Box::new) }
    }

    fn unused(&self) -> &'static legacy::Session {
        &UNUSED[2 * usize::from(self.side == Side::Server) + usize::from(self.durable)]
    }
}

impl Deref for LinesSession {
    type Target = legacy::Session;

    fn deref(&self) -> &legacy::Session {
        self.used.as_deref().unwrap_or_else(|| self.unused())
    }
}

impl DerefMut for LinesSession {
    fn deref_mut(&mut self) -> &mut legacy::Session {
        let unused = self.unused();
        self.used.get_or_insert_with(|| Box::new(unused.clone()))
    }
}
