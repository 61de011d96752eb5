//! A quantity of bytes as users write it (`8Gi`), with a schema of one line instead of the two
//! kilobytes that the Kubernetes type brings along.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Bytes in Kubernetes' notation: a whole number, with a suffix such as `Mi`, `Gi`, `M` or `G`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(String);

const SUFFIXES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl Quantity {
    /// As written, e.g. `8Gi`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, as Kubernetes takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of bytes, or nothing where the text is no quantity or does not fit 64 bits.
    pub fn bytes(&self) -> Option<u64> {
        let (digits, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((self.0.strip_suffix(suffix)?, *factor)))
            .unwrap_or((&self.0, 1));
        digits.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
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
                "rule": "self.matches('^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$')",
                "message": "must be a whole number of bytes above zero, with a suffix such as Mi or Gi, e.g. 8Gi",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("8Gi", Some(8 << 30))]
    #[case("512Mi", Some(512 << 20))]
    #[case("2G", Some(2_000_000_000))]
    #[case("42", Some(42))]
    #[case("", None)]
    #[case("8 Gi", None)]
    #[case("-1Gi", None)]
    #[case("99999999999Ti", None)]
    fn reads_bytes(#[case] text: &str, #[case] bytes: Option<u64>) {
        assert_eq!(Quantity::new(text).bytes(), bytes);
    }
}
