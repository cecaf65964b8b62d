//! Log lines on standard error.

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging. `filter` is what `--log` says.
pub(crate) fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    use std::io::IsTerminal;

    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?}: expected error, warn, info, debug or trace, or part=level,…"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
