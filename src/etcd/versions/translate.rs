//! Flags for the release that a member is about to run, whichever release they were written for.

use super::gates::{FEATURE_GATES, gate_named, gate_of_flag, other_spelling};
use super::known_flags::{groups, is_known};
use super::{MINORS, is_supported};
use crate::etcd::{EtcdVersion, Minor};
use std::collections::BTreeMap;

/// The first minor that takes `--feature-gates`.
const WITH_GATES: Minor = Minor::new(3, 6);

/// Why flags cannot be given to a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No release of the table knows the flag.
    #[error("{flag} is no flag of etcd {version}")]
    Unknown {
        /// The flag.
        flag: String,
        /// The release that would run.
        version: EtcdVersion,
    },
    /// The flag came later.
    #[error("{flag} is no flag of etcd {version}; it came with {since}")]
    TooNew {
        /// The flag.
        flag: String,
        /// The release that would run.
        version: EtcdVersion,
        /// The first release that knows it.
        since: EtcdVersion,
    },
    /// The flag went, and nothing took its place.
    #[error("{flag} is no flag of etcd {version}; {gone} removed it, and nothing took its place")]
    Removed {
        /// The flag.
        flag: String,
        /// The release that would run.
        version: EtcdVersion,
        /// The minor that removed it.
        gone: Minor,
    },
    /// No release of the table knows the gate.
    #[error("{gate} is no feature gate of etcd {version}")]
    UnknownGate {
        /// The gate.
        gate: String,
        /// The release that would run.
        version: EtcdVersion,
    },
    /// The gate came later, and was no flag before.
    #[error("{gate} is no feature gate of etcd {version}; it came with {since}")]
    GateTooNew {
        /// The gate.
        gate: String,
        /// The release that would run.
        version: EtcdVersion,
        /// The first minor that knows it.
        since: Minor,
    },
    /// A switch that is neither on nor off.
    #[error("{flag} is {value:?}, which is neither true nor false")]
    NoBool {
        /// The flag or gate.
        flag: String,
        /// Its value.
        value: String,
    },
    /// One setting, given twice with different values.
    #[error("{flag} and {other} are one setting of etcd {version}, and are given different values")]
    Contradiction {
        /// One spelling.
        flag: String,
        /// The other.
        other: String,
        /// The release that would run.
        version: EtcdVersion,
    },
    /// etcd does not start with one gate alone.
    #[error("{gate} is on without {needs}; etcd {version} does not start with it alone")]
    Needs {
        /// The gate.
        gate: &'static str,
        /// What must be on too.
        needs: &'static str,
        /// The release that would run.
        version: EtcdVersion,
    },
}

impl FlagError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unknown { flag, .. } => format!("correct or remove {flag}"),
            Self::TooNew { flag, since, .. } => format!("remove {flag}, or add it once {since} runs"),
            Self::Removed { flag, .. } => format!("remove {flag}"),
            Self::UnknownGate { gate, .. } => format!("correct or remove the feature gate {gate}"),
            Self::GateTooNew { gate, since, .. } => {
                format!("remove the feature gate {gate}, or add it once {since} runs")
            }
            Self::NoBool { flag, .. } => format!("set {flag} to true or false"),
            Self::Contradiction { flag, other, .. } => format!("keep one of {flag} and {other}"),
            Self::Needs { gate, needs, .. } => format!("set {needs} too, or remove {gate}"),
        }
    }
}

/// Renders flags for a release: an `experimental-` flag under the name or as the feature gate that it has
/// become, or the other way round. What the release takes as it is written stays so; only what stands in
/// two places, some as flags and some in `feature-gates`, is brought together there, since etcd 3.6 refuses
/// the mixture. Values that a later release does not take any more and that mean nothing to it are left out.
///
/// A flag that no release knows passes for patches newer than this table, which may have brought it.
///
/// # Errors
/// The first flag that the release would not start with.
pub fn translate(
    args: &BTreeMap<String, String>,
    version: EtcdVersion,
) -> Result<BTreeMap<String, String>, FlagError> {
    if !is_supported(version.minor) {
        // Nothing is known of its flags.
        return Ok(args.clone());
    }
    let mut out = BTreeMap::new();
    let mut gates = Gates { version, set: BTreeMap::new() };
    if let Some(text) = args.get(FEATURE_GATES) {
        gates.add_all(text)?;
    }
    for (flag, value) in args.iter().filter(|(flag, _)| *flag != FEATURE_GATES) {
        if is_without_meaning(flag, value, version) {
            continue;
        }
        match gate_of_flag(flag) {
            Some(_) if is_known(flag, version) && !args.contains_key(FEATURE_GATES) => {
                out.insert(flag.clone(), value.clone());
            }
            Some(gate) => gates.add(gate.name, flag, value)?,
            None => {
                let name = spelling(flag, value, args, version)?;
                out.insert(name, value.clone());
            }
        }
    }
    gates.write(&mut out)?;
    check_lease_checkpoint(&out, version)?;
    Ok(out)
}

/// `--v2-deprecation=not-yet` is 3.5's default, and no value of 3.6, which has no v2 API left to keep.
/// <https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/>
fn is_without_meaning(flag: &str, value: &str, version: EtcdVersion) -> bool {
    flag == "v2-deprecation" && value == "not-yet" && version.minor >= WITH_GATES
}

/// The name of a flag in a release.
fn spelling(
    flag: &str,
    value: &str,
    args: &BTreeMap<String, String>,
    version: EtcdVersion,
) -> Result<String, FlagError> {
    let other = other_spelling(flag);
    if let Some((other, _)) = other
        .as_ref()
        .and_then(|other| args.get_key_value(other.as_str()))
        .filter(|(_, written)| *written != value)
    {
        return Err(FlagError::Contradiction { flag: flag.to_owned(), other: other.clone(), version });
    }
    // Where both are written the later name is enough: 3.6 does not start with both of some.
    let later =
        other.as_ref().filter(|other| args.contains_key(*other) && !other.starts_with("experimental-"));
    [later.map(String::as_str), Some(flag), other.as_deref()]
        .into_iter()
        .flatten()
        .find(|name| is_known(name, version))
        .map(str::to_owned)
        .map_or_else(|| not_known(flag, other.as_deref(), version), Ok)
}

fn not_known(flag: &str, other: Option<&str>, version: EtcdVersion) -> Result<String, FlagError> {
    let of_either = || [Some(flag), other].into_iter().flatten().flat_map(groups);
    let flag = flag.to_owned();
    if let Some(since) = of_either().map(|group| group.since).filter(|since| *since > version).min() {
        return Err(FlagError::TooNew { flag, version, since });
    }
    if let Some(gone) = of_either().filter_map(|group| group.gone).max() {
        return Err(FlagError::Removed { flag, version, gone });
    }
    if is_newer_than_the_table(version) { Ok(flag) } else { Err(FlagError::Unknown { flag, version }) }
}

/// Patches bring flags at times, so nothing can be said of those that are not in the table.
fn is_newer_than_the_table(version: EtcdVersion) -> bool {
    MINORS.iter().any(|line| line.minor == version.minor && version.patch > line.newest_patch)
}

/// The gates that are given, wherever they are given.
struct Gates {
    version: EtcdVersion,
    /// Each with its value and the flag that it stood in.
    set: BTreeMap<String, (bool, String)>,
}

impl Gates {
    fn add_all(&mut self, text: &str) -> Result<(), FlagError> {
        for entry in text.split(',').filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.add(name.trim(), FEATURE_GATES, value.trim())?;
        }
        Ok(())
    }

    fn add(&mut self, gate: &str, flag: &str, value: &str) -> Result<(), FlagError> {
        let Some(on) = go_bool(value) else {
            let flag = if flag == FEATURE_GATES { gate } else { flag };
            return Err(FlagError::NoBool { flag: flag.to_owned(), value: value.to_owned() });
        };
        match self.set.get(gate) {
            Some((before, other)) if *before != on => Err(FlagError::Contradiction {
                flag: flag.to_owned(),
                other: format!("{other} ({gate})"),
                version: self.version,
            }),
            _ => {
                self.set.insert(gate.to_owned(), (on, flag.to_owned()));
                Ok(())
            }
        }
    }

    fn write(self, out: &mut BTreeMap<String, String>) -> Result<(), FlagError> {
        if self.version.minor < WITH_GATES { self.write_as_flags(out) } else { self.write_as_gates(out) }
    }

    fn write_as_flags(self, out: &mut BTreeMap<String, String>) -> Result<(), FlagError> {
        let version = self.version;
        for (name, (on, _)) in self.set {
            let Some(gate) = gate_named(&name) else {
                return Err(FlagError::UnknownGate { gate: name, version });
            };
            let Some(flag) = gate.flag else {
                return Err(FlagError::GateTooNew { gate: name, version, since: gate.since });
            };
            let flag =
                if is_known(flag, version) { flag.to_owned() } else { not_known(flag, None, version)? };
            out.insert(flag, on.to_string());
        }
        Ok(())
    }

    fn write_as_gates(self, out: &mut BTreeMap<String, String>) -> Result<(), FlagError> {
        let version = self.version;
        let mut written = Vec::new();
        for (name, (on, _)) in self.set {
            match gate_named(&name) {
                Some(gate) if !gate.is_known_to(version) => {
                    return Err(FlagError::GateTooNew { gate: name, version, since: gate.since });
                }
                None if !is_newer_than_the_table(version) => {
                    return Err(FlagError::UnknownGate { gate: name, version });
                }
                _ => written.push(format!("{name}={on}")),
            }
        }
        if !written.is_empty() {
            out.insert(FEATURE_GATES.to_owned(), written.join(","));
        }
        Ok(())
    }
}

/// etcd exits where leases are persisted without being checkpointed.
/// <https://github.com/etcd-io/etcd/pull/13508>
fn check_lease_checkpoint(out: &BTreeMap<String, String>, version: EtcdVersion) -> Result<(), FlagError> {
    const PERSIST: &str = "LeaseCheckpointPersist";
    const CHECKPOINT: &str = "LeaseCheckpoint";
    let given = |gate: &str| {
        let flag = gate_named(gate).and_then(|gate| gate.flag);
        let by_flag = flag.and_then(|flag| go_bool(out.get(flag)?));
        let mut entries = out.get(FEATURE_GATES).into_iter().flat_map(|text| text.split(','));
        by_flag.or_else(|| {
            entries
                .find_map(|entry| entry.split_once('=').filter(|(name, _)| *name == gate))
                .and_then(|(_, value)| go_bool(value))
        })
    };
    let is_on = |gate: &str| given(gate).or_else(|| given("AllAlpha")).unwrap_or(false);
    if is_on(PERSIST) && !is_on(CHECKPOINT) {
        return Err(FlagError::Needs { gate: PERSIST, needs: CHECKPOINT, version });
    }
    Ok(())
}

/// What etcd reads as a switch: <https://pkg.go.dev/strconv#ParseBool>.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
