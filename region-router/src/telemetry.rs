//! Logs: JSON for machines, text for people.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// For a person at a terminal.
    Text,
    /// Text on a terminal, JSON otherwise.
    Auto,
}

/// Which lines are written, and how.
#[derive(Debug)]
pub(crate) struct LogConfig {
    pub(crate) format: Format,
    pub(crate) filter: EnvFilter,
}

/// Sets up logging for the process, to standard error. Later calls change nothing.
pub(crate) fn init(config: &LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    let filter = EnvFilter::new(config.filter.to_string());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal)
        .with_target(false)
        .with_writer(std::io::stderr);
    let json = match config.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !terminal,
    };
    // It fails only when there is one already, which then is as good.
    let _ = if json { subscriber.json().flatten_event(true).try_init() } else { subscriber.try_init() };
}
