//! What can be wrong with a saved session, of either engine.

/// Why some bytes are no saved session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SavedError {
    /// They do not begin as one, or are of another version.
    Format,
    /// The checksum does not fit.
    Checksum,
    /// The checksum fits, and the numbers contradict each other.
    Contradiction,
}

impl core::fmt::Display for SavedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            SavedError::Format => "expected a saved session of version 1",
            SavedError::Checksum => "the saved session is damaged: its checksum does not fit",
            SavedError::Contradiction => "the saved session's numbers contradict each other",
        })
    }
}

impl core::error::Error for SavedError {}
