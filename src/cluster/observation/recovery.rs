//! What is asked only while a quorum is lost, and of the Pods that make a cluster anew. Plain data.

use super::{NodeTrouble, PodFacts};
use crate::etcd::{ListedMember, MemberStatus};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What a recovery from one member needs to know.
#[derive(Clone, Debug, Default)]
pub struct RecoveryFacts {
    /// Its Pods.
    pub pods: Vec<RecoveryPod>,
    /// Every node there is, and what is wrong with it. Asked only where the spec asks for a recovery; nothing where nodes
    /// may not be read.
    pub nodes: Option<BTreeMap<String, Option<NodeTrouble>>>,
}

/// A Pod of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryPod {
    /// Its name.
    pub name: String,
    /// What it does.
    pub stage: Stage,
    /// The loss for which it was made.
    pub incident: String,
    /// What the API server says of it.
    pub facts: PodFacts,
    /// What etcd in it answers, or why it does not.
    pub says: Result<Alone, String>,
}

/// What a Pod of a recovery does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It copies the survivor's data.
    Copy,
    /// It runs the survivor once with `--force-new-cluster`.
    Force,
}

impl Stage {
    /// The word in its Pod's name and annotation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Force => "force",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Copy, Self::Force].into_iter().find(|stage| stage.as_str() == word)
    }
}

/// What a member says that serves linearizable reads after a force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// Its status.
    pub status: MemberStatus,
    /// The member list, read after a linearizable read.
    pub list: Vec<ListedMember>,
}

/// When a member was seen to answer a linearizable read for the last time, while this process watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// When.
    pub at: Timestamp,
    /// The revision that it had.
    pub revision: i64,
}
