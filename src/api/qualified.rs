//! Names and values of labels and annotations as Kubernetes takes them: anything else would be refused with each object
//! that carries it, a Pod that is to come back among them.
//!
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>, and
//! `ValidateAnnotations` in
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.4/staging/src/k8s.io/apimachinery/pkg/api/validation/objectmeta.go>

use std::collections::BTreeMap;

/// All annotations of one object together, in bytes, less what the operator needs for its own.
const ANNOTATIONS_LIMIT: usize = (256 - 16) << 10;

/// What of these is no label, in words.
pub fn no_label(name: &str, value: &str) -> Option<String> {
    const FORM: &str = "at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last";
    no_name(name).or_else(|| {
        let is_one = value.is_empty() || is_word(value);
        (!is_one).then(|| format!("the value {value:?} of {name} is none of a label: {FORM}"))
    })
}

/// What of this is no annotation, in words. Any value is one.
pub fn no_annotation(name: &str) -> Option<String> {
    no_name(&name.to_lowercase())
}

/// Whether an object can carry so much of them.
pub fn fit_on_an_object(annotations: &BTreeMap<String, String>) -> bool {
    annotations.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= ANNOTATIONS_LIMIT
}

fn no_name(name: &str) -> Option<String> {
    const FORM: &str =
        "at most 63 letters, digits, '-', '_' and '.', before them a DNS name and '/' or nothing";
    let is_one = match name.split_once('/') {
        Some((prefix, name)) => is_dns_name(prefix) && is_word(name),
        None => is_word(name),
    };
    (!is_one).then(|| format!("{name:?} is no name of a label or annotation: {FORM}"))
}

fn is_word(text: &str) -> bool {
    let ends_well = |end: Option<char>| end.is_some_and(|it| it.is_ascii_alphanumeric());
    text.len() <= 63
        && ends_well(text.chars().next())
        && ends_well(text.chars().next_back())
        && text.chars().all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
}

fn is_dns_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let ends_well = |end: Option<char>| end.is_some_and(|it| it != '-');
        ends_well(part.chars().next())
            && ends_well(part.chars().next_back())
            && part.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("team", "a")]
    #[case("example.org/Team_x.y-z", "A_b.c-1")]
    #[case("team", "")]
    fn is_a_label(#[case] name: &str, #[case] value: &str) {
        assert_eq!(no_label(name, value), None);
    }

    #[rstest]
    #[case::empty("", "a")]
    #[case::space("my team", "a")]
    #[case::no_prefix("/team", "a")]
    #[case::two_slashes("a/b/c", "a")]
    #[case::capital_in_the_prefix("Example.org/team", "a")]
    #[case::hyphen_at_the_end_of_the_prefix("example-.org/team", "a")]
    #[case::empty_part("example..org/team", "a")]
    #[case::long("a123456789a123456789a123456789a123456789a123456789a123456789a123", "a")]
    #[case::value_with_a_space("team", "a b")]
    #[case::value_that_ends_badly("team", "a-")]
    #[case::value_beyond_ascii("team", "straße")]
    fn is_no_label(#[case] name: &str, #[case] value: &str) {
        assert!(no_label(name, value).is_some());
    }

    #[test]
    fn an_annotation_may_say_anything_under_a_name() {
        assert_eq!(no_annotation("Example.org/note"), None);
        assert!(no_annotation("a note").is_some());
        let fits = |length: usize| fit_on_an_object(&BTreeMap::from([("a".to_owned(), "x".repeat(length))]));
        assert!(fits(200 << 10) && !fits(250 << 10));
    }
}
