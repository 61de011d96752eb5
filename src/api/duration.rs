//! A duration as users write it (`5m`, `100ms`).

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A span of time in Kubernetes' notation: `100ms`, `30s`, `5m`, `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

impl Duration {
    /// As written, e.g. `5m`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The span, or nothing where the text is no duration.
    pub fn get(&self) -> Option<std::time::Duration> {
        let span: jiff::SignedDuration = self.0.parse().ok()?;
        span.try_into().ok()
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 24,
            // A rule and not a pattern: a pattern's error shows the expression, a rule says what to write.
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([0-9]+(ms|s|m|h))+$')",
                "message": "must be a duration, e.g. 100ms, 30s, 5m or 1h30m",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("100ms", Some(100))]
    #[case("5m", Some(300_000))]
    #[case("1h30m", Some(5_400_000))]
    #[case("soon", None)]
    fn reads_spans(#[case] text: &str, #[case] millis: Option<u128>) {
        assert_eq!(Duration::new(text).get().map(|d| d.as_millis()), millis);
    }
}
