//! Releases of etcd: the newest known patch of each minor, and releases to avoid with the reason.
//!
//! The table below is built in. [`Releases`] is that table plus what the operator was told at its
//! start, so that a newer patch, or a mirror's own verdict, needs no newer operator.

use super::bugs::BUGS;
use super::is_supported;
use crate::etcd::{EtcdVersion, Minor};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// A minor of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinorLine {
    /// The minor.
    pub minor: Minor,
    /// Its newest patch when this table was written (2026-10-22). Newer ones are fine.
    pub newest_patch: u64,
    /// Its releases.
    pub source: &'static str,
}

/// The minors that members can be run on.
pub const MINORS: &[MinorLine] = &[
    MinorLine {
        minor: Minor::new(3, 5),
        newest_patch: 35,
        source: "https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.5.md",
    },
    MinorLine {
        minor: Minor::new(3, 6),
        newest_patch: 16,
        source: "https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.6.md",
    },
    MinorLine {
        minor: Minor::new(3, 7),
        newest_patch: 3,
        source: "https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.7.md",
    },
];

/// The built-in table, with additions and verdicts of the person who runs the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Releases {
    known: BTreeSet<EtcdVersion>,
    refuse: BTreeMap<EtcdVersion, String>,
    warn: BTreeMap<EtcdVersion, String>,
}

/// The form of a file of releases.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    known: Vec<String>,
    refuse: BTreeMap<String, String>,
    warn: BTreeMap<String, String>,
}

/// Why a file of releases cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReleasesError {
    /// Not JSON, or not of the form.
    #[error(
        "not of the form {{\"known\": [\"3.6.17\"], \"refuse\": {{\"3.6.15\": \"why\"}}, \"warn\": {{\"3.6.16\": \"why\"}}}}"
    )]
    Form(#[source] serde_json::Error),
    /// An entry that is no release.
    #[error("under {field}")]
    Version {
        /// The field it stands in.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: crate::etcd::types::VersionError,
    },
    /// A release of a minor that the operator does not know: hops and flags of it are unknown too.
    #[error("{field} names {version}, which is of no minor that this operator knows")]
    Minor {
        /// The field it stands in.
        field: &'static str,
        /// The release.
        version: EtcdVersion,
    },
    /// A verdict without its reason.
    #[error("{field} gives no reason for {version}; people will read it")]
    Reason {
        /// The field it stands in.
        field: &'static str,
        /// The release.
        version: EtcdVersion,
    },
}

impl Releases {
    /// Reads additions and verdicts from JSON:
    /// `{"known": ["3.6.17"], "refuse": {"3.6.15": "why"}, "warn": {"3.6.16": "why"}}`, each part optional.
    ///
    /// # Errors
    /// The first entry that cannot be used.
    pub fn parse(json: &str) -> Result<Self, ReleasesError> {
        let file: File = serde_json::from_str(json).map_err(ReleasesError::Form)?;
        Ok(Self {
            known: file.known.iter().map(|text| release("known", text)).collect::<Result<_, _>>()?,
            refuse: verdicts("refuse", file.refuse)?,
            warn: verdicts("warn", file.warn)?,
        })
    }

    /// The newest patch of a minor that may be gone to; nothing where none is known.
    pub fn newest(&self, minor: Minor) -> Option<EtcdVersion> {
        let line = MINORS.iter().find(|line| line.minor == minor)?;
        let built_in = (0..=line.newest_patch).map(|patch| minor.patch(patch));
        let added = self.known.iter().copied().filter(|version| version.minor == minor);
        built_in.chain(added).filter(|version| self.refused(*version).is_none()).max()
    }

    /// Why a release is refused as a target; nothing where it is not. A verdict to warn of a release overrules
    /// the table, which refuses it.
    pub fn refused(&self, version: EtcdVersion) -> Option<&str> {
        if let Some(why) = self.refuse.get(&version) {
            return Some(why);
        }
        let known = BUGS.iter().find(|bug| bug.refuses(version));
        known.filter(|_| !self.warn.contains_key(&version)).map(|bug| bug.what)
    }

    /// What a person should know of a release: verdicts first, then known bugs.
    pub fn known_faults(&self, version: EtcdVersion) -> Vec<String> {
        let own = [self.refuse.get(&version).cloned(), self.warn.get(&version).cloned()];
        let bugs =
            BUGS.iter().filter_map(|bug| Some(format!("{} (until {})", bug.what, bug.fix_for(version)?)));
        own.into_iter().flatten().chain(bugs).collect()
    }
}

fn verdicts(
    field: &'static str,
    of: BTreeMap<String, String>,
) -> Result<BTreeMap<EtcdVersion, String>, ReleasesError> {
    of.into_iter()
        .map(|(text, why)| {
            let version = release(field, &text)?;
            if why.trim().is_empty() {
                return Err(ReleasesError::Reason { field, version });
            }
            Ok((version, why))
        })
        .collect()
}

fn release(field: &'static str, text: &str) -> Result<EtcdVersion, ReleasesError> {
    let version: EtcdVersion = text.parse().map_err(|source| ReleasesError::Version { field, source })?;
    if is_supported(version.minor) { Ok(version) } else { Err(ReleasesError::Minor { field, version }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::error::Error as _;

    fn v(text: &str) -> EtcdVersion {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("3.5.2", true)]
    #[case("3.5.3", false)]
    #[case("3.6.4", true)]
    #[case("3.6.5", false)]
    #[case("3.7.0", false)]
    #[case("3.7.99", false)]
    fn refuses_targets(#[case] version: &str, #[case] refused: bool) {
        assert_eq!(Releases::default().refused(v(version)).is_some(), refused);
    }

    #[rstest]
    #[case("3.5.10", &["revisions may go back", "applied in part", "until 3.5.33"])]
    #[case("3.5.5", &["may differ on a member that was added"])]
    #[case("3.6.13", &["can watch every key"])]
    #[case("3.6.4", &["may not start", "during the receipt of a snapshot"])]
    #[case("3.7.0", &["unfinished handshakes (until 3.7.1)"])]
    fn knows_faults(#[case] version: &str, #[case] named: &[&str]) {
        let faults = Releases::default().known_faults(v(version)).join("\n");
        for name in named {
            assert!(faults.contains(name), "{name}: {faults}");
        }
    }

    #[rstest]
    #[case("3.5.35")]
    #[case("3.6.16")]
    #[case("3.7.3")]
    #[case("3.7.9")]
    fn knows_none_of_the_newest(#[case] version: &str) {
        assert_eq!(Releases::default().known_faults(v(version)), Vec::<String>::new());
    }

    #[test]
    fn a_bug_that_came_later_is_none_of_the_older() {
        assert!(
            !Releases::default()
                .known_faults(v("3.5.4"))
                .join("\n")
                .contains("may differ on a member that was added")
        );
    }

    #[test]
    fn newest_follows_additions_and_verdicts() {
        let newest = |json: &str, minor: &str| {
            Releases::parse(json).unwrap().newest(v(minor).minor).map(|version| version.to_string())
        };
        assert_eq!(newest("{}", "3.6.0").as_deref(), Some("3.6.16"));
        assert_eq!(newest(r#"{"known": ["3.6.17"]}"#, "3.6.0").as_deref(), Some("3.6.17"));
        assert_eq!(newest(r#"{"known": ["3.6.2"]}"#, "3.6.0").as_deref(), Some("3.6.16"));
        assert_eq!(newest(r#"{"refuse": {"3.6.16": "bad"}}"#, "3.6.0").as_deref(), Some("3.6.15"));
        let both = r#"{"known": ["3.6.17", "3.6.18"], "refuse": {"3.6.18": "bad"}}"#;
        assert_eq!(newest(both, "3.6.0").as_deref(), Some("3.6.17"));
        assert_eq!(newest("{}", "3.9.0"), None);
    }

    #[test]
    fn a_person_s_own_verdict_counts() {
        let own = |json: &str| Releases::parse(json).unwrap().refused(v("3.6.4")).map(str::to_owned);
        assert_eq!(own(r#"{"warn": {"3.6.4": "ours has the fix"}}"#), None);
        assert_eq!(own(r#"{"refuse": {"3.6.4": "no"}, "warn": {"3.6.4": "yes"}}"#).as_deref(), Some("no"));
    }

    #[rstest]
    #[case("3.6.17", "not of the form")]
    #[case(r#"{"knwon": []}"#, "unknown field `knwon`")]
    #[case(r#"{"known": ["3.6"]}"#, "under known: \"3.6\" is no version")]
    #[case(r#"{"warn": {"3.9.1": "x"}}"#, "warn names 3.9.1")]
    #[case(r#"{"refuse": {"3.6.16": " "}}"#, "no reason for 3.6.16")]
    fn says_what_is_wrong_with_a_file(#[case] json: &str, #[case] says: &str) {
        let error = Releases::parse(json).unwrap_err();
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        assert!(text.contains(says), "{text}");
    }
}
