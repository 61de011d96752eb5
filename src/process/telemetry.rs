//! Logs: JSON for machines, text for a person at a terminal; always on stderr.

use std::io::{IsTerminal, stderr};
use std::panic;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What is logged when nothing else is said. A target stands for all that begin with it, so `kube` is
/// also `kube_client` and `kube_runtime`.
pub const DEFAULT_FILTER: &str = "info,kube=warn";

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Text,
}

impl LogFormat {
    /// What was asked for, else what suits who reads.
    fn choose(asked: Option<Self>, terminal: bool) -> Self {
        asked.unwrap_or(if terminal { Self::Text } else { Self::Json })
    }
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter does not parse.
    #[error("the log filter {0:?} does not parse; an example that does: {DEFAULT_FILTER}")]
    Filter(String, #[source] ParseError),
    /// Somebody else already logs in this process.
    #[error("logs are already set up")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Begins to log, panics included. `filter` has the syntax of `RUST_LOG`; empty means the default.
pub fn init(format: Option<LogFormat>, filter: &str) -> Result<(), Error> {
    let terminal = stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_writer(stderr).with_ansi(terminal).with_env_filter(parse(filter)?);
    match LogFormat::choose(format, terminal) {
        // The innermost span says which cluster; the list of all of them would say it twice.
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(Error::Twice)?;
    // Else a panic would be the one line in the log that no machine can read.
    panic::set_hook(Box::new(|panic| tracing::error!(%panic, "the process panicked: this is a bug")));
    Ok(())
}

/// An error and its causes in one line. A cause that the text already tells is not told again: many
/// errors name their cause and hand it out as well.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(error.source(), |cause| cause.source()).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    let filter = if filter.trim().is_empty() { DEFAULT_FILTER } else { filter };
    EnvFilter::try_new(filter).map_err(|error| Error::Filter(filter.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_unless_told_otherwise() {
        assert_eq!(LogFormat::choose(None, true), LogFormat::Text);
        assert_eq!(LogFormat::choose(None, false), LogFormat::Json);
        assert_eq!(LogFormat::choose(Some(LogFormat::Json), true), LogFormat::Json);
        assert_eq!(LogFormat::choose(Some(LogFormat::Text), false), LogFormat::Text);
    }

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read: {0}")]
        struct Read(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start")]
        struct Start(#[source] Read);
        assert_eq!(
            with_causes(&Start(Read(std::io::Error::other("gone")))),
            "cannot start: cannot read: gone"
        );
    }

    #[test]
    fn an_empty_filter_is_the_default_and_a_broken_one_is_refused() {
        assert_eq!(parse(" ").unwrap().to_string(), parse(DEFAULT_FILTER).unwrap().to_string());
        let error = parse("quorate=loud").unwrap_err().to_string();
        assert!(error.contains("quorate=loud") && error.contains(DEFAULT_FILTER), "{error}");
    }
}
