//! What an endpoint's sessions are in the store.

use bowline_proto::{Side, legacy, native};

use crate::Dialect;

/// The store's number for this format.
pub(crate) const FORMAT: u32 = 1;

/// Where the seqs of dialect N's epoch are among those of the queues, which rise for ever: behind
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bases {
    pub(crate) tx: u64,
    pub(crate) rx: u64,
}

/// What is saved beside what the inbox says as well, on N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Essence {
    pub(crate) dialect: Option<Dialect>,
    pub(crate) bases: Bases,
    pub(crate) sent: native::SavedSent,
}

/// Bytes before the engines' own: dialect, bases.
const FIXED: usize = 1 + 8 + 8;

/// Writes them one after the other: dialect, bases, the native session, and the line dialects' if one was spoken.
pub(crate) fn write(
    dialect: Option<Dialect>,
    bases: Bases,
    native: &[u8; native::SAVED_LEN],
    lines: Option<&legacy::Saved>,
) -> Vec<u8> {
    let lines = lines.map_or(&[][..], legacy::Saved::as_bytes);
    let mut bytes = Vec::with_capacity(FIXED + native.len() + lines.len());
    bytes.push(match dialect {
        None => 0,
        Some(dialect) => dialect.letter() as u8,
    });
    bytes.extend(bases.tx.to_be_bytes());
    bytes.extend(bases.rx.to_be_bytes());
    bytes.extend(native);
    bytes.extend(lines);
    bytes
}

/// Both sessions as they were stored.
pub(crate) struct Sessions {
    pub(crate) dialect: Option<Dialect>,
    pub(crate) bases: Bases,
    pub(crate) native: native::Session,
    pub(crate) lines: Option<legacy::Session>,
}

/// Reads what [`write`] has written. Says what is wrong.
pub(crate) fn read(side: Side, format: u32, bytes: &[u8]) -> Result<Sessions, String> {
    if format != FORMAT {
        return Err(format!("it has format {format}, and this version reads {FORMAT}: use the version that wrote it"));
    }
    let short = || format!("it has {} bytes, which is too few", bytes.len());
    let (&[dialect], rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (tx, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (rx, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (native, lines) = rest.split_first_chunk::<{ native::SAVED_LEN }>().ok_or_else(short)?;
    let dialect = match dialect {
        0 => None,
        b'H' => Some(Dialect::Headers),
        b'U' => Some(Dialect::Upstream),
        b'P' => Some(Dialect::Plain),
        b'N' => Some(Dialect::Native),
        other => return Err(format!("it is of a dialect {:?}, which this version does not know", other as char)),
    };
    let native = native::Session::restore(side, native).map_err(|error| error.to_string())?;
    let lines = match lines {
        [] => None,
        lines => Some(legacy::Session::restore(side, lines).map_err(|error| error.to_string())?),
    };
    // The queues' numbers have 63 bits.
    let (tx, rx) = (u64::from_be_bytes(*tx), u64::from_be_bytes(*rx));
    let fits = |base: u64, seq: u64| base.checked_add(seq).is_some_and(|sum| sum >> 63 == 0);
    if !fits(tx, native.last()) || !fits(rx, native.received()) {
        return Err(format!("its epoch begins behind {tx} and {rx}, where no message can be"));
    }
    Ok(Sessions { dialect, bases: Bases { tx, rx }, native, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Their sums would overflow.
    #[test]
    fn bases_that_leave_no_room_for_the_epoch_are_refused() {
        let mut native = native::Session::new(Side::Server);
        native.handle_outbox(3);
        let read = |bases| read(Side::Server, FORMAT, &write(Some(Dialect::Native), bases, &native.save(), None));
        let largest = (1 << 63) - 1;
        assert!(read(Bases { tx: largest - 3, rx: largest }).is_ok());
        for bases in [(largest - 2, 0), (u64::MAX, 0), (0, largest + 1), (0, u64::MAX)] {
            let problem = read(Bases { tx: bases.0, rx: bases.1 }).err().unwrap_or_default();
            assert!(problem.contains("no message can be"), "{bases:?}: {problem}");
        }
    }
}
