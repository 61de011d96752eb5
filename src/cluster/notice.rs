//! A wait or a refusal as people read it: a stable code, the evidence, the remedy. Pure.

use crate::api::{Code, FailureStatus, Severity};
use crate::etcd::logs::cause;
use std::fmt;

/// A code with the evidence and the remedy for the case at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The stable word.
    pub code: Code,
    /// What is, with numbers and names.
    pub message: String,
    /// What to do, as a command or an edit where there is one; empty where there is nothing to do.
    pub remedy: String,
}

impl Notice {
    /// A notice with its own remedy.
    pub fn new(code: Code, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into() }
    }

    /// A notice for which the code's general remedy is good enough.
    pub fn of(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, message, code.remedy())
    }

    /// Whether a person must act.
    pub fn is_refusal(&self) -> bool {
        self.code.severity() == Severity::Refusal
    }
}

/// How a member failed, behind a sentence that says so: the reason, the exit code, and the line of its log that tells most.
pub(in crate::cluster) fn how_it_failed(failure: &FailureStatus) -> String {
    let how = match (&failure.reason, failure.exit_code) {
        (Some(reason), Some(code)) => format!(" ({reason}, exit code {code})"),
        (Some(reason), None) => format!(" ({reason})"),
        (None, Some(code)) => format!(" (exit code {code})"),
        (None, None) => String::new(),
    };
    match failure.log.as_deref().and_then(cause) {
        Some(line) => format!("{how}, saying `{line}`"),
        None => how,
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.is_refusal() && !self.remedy.is_empty() {
            write!(f, " — {}", self.remedy)?;
        }
        Ok(())
    }
}
