//! The check against downgrades (§15.1).

/// To be called with what came under the seal: by the server with the *highest version* of HELLO, by
/// the device with that of WELCOME. `spoken` is the version of the opening.
///
/// # Errors
/// If both ends could have spoken a higher version, or the peer says it cannot speak this one. The
/// link is then closed with [`crate::code::VERSION`].
pub const fn check_versions(spoken: u8, own_highest: u8, peer_highest: u8) -> Result<(), VersionError> {
    if peer_highest < spoken || own_highest < spoken {
        return Err(VersionError::Impossible { spoken, peer_highest });
    }
    let best = if own_highest < peer_highest { own_highest } else { peer_highest };
    if best > spoken { Err(VersionError::Downgraded { spoken, best }) } else { Ok(()) }
}

/// Why the version spoken is not the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionError {
    /// Both ends could have spoken a higher one: someone between them lowered it.
    Downgraded {
        /// The version of the opening.
        spoken: u8,
        /// The highest that both speak.
        best: u8,
    },
    /// One end says that it does not speak this version.
    Impossible {
        /// The version of the opening.
        spoken: u8,
        /// What the peer says is its highest.
        peer_highest: u8,
    },
}

impl core::fmt::Display for VersionError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            VersionError::Downgraded { spoken, best } => {
                write!(f, "version {spoken} was spoken, but both ends know {best}: something between them lowered it")
            }
            VersionError::Impossible { spoken, peer_highest } => {
                write!(f, "version {spoken} was spoken, but the peer says that its highest is {peer_highest}")
            }
        }
    }
}

impl core::error::Error for VersionError {}
