//! Asking before something is gone for good.

use std::io::{self, BufRead, IsTerminal};

/// Asks a person at a terminal, unless `yes` has answered already. Scripts are not asked.
pub(crate) fn confirm(question: &str, yes: bool) -> io::Result<bool> {
    if yes || !io::stdin().is_terminal() {
        return Ok(true);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
