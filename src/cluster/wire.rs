//! What members talk, to each other and with clients. Pure.

use super::observation::{ClaimFacts, Observation, Ownership};
use crate::api::{EtcdClusterSpec, TlsMode};

/// What members talk, to each other and with clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Plaintext.
    #[default]
    Plain,
    /// TLS, where both sides show a certificate.
    Tls,
}

impl Wire {
    /// What a new cluster gets.
    pub fn asked_for(spec: &EtcdClusterSpec) -> Self {
        Self::of_note(spec.tls.as_ref().and_then(|tls| tls.mode))
    }

    /// Of a mode.
    pub const fn of(mode: TlsMode) -> Self {
        match mode {
            TlsMode::Enabled => Self::Tls,
            TlsMode::Disabled => Self::Plain,
        }
    }

    /// As users write it.
    pub const fn mode(self) -> TlsMode {
        match self {
            Self::Tls => TlsMode::Enabled,
            Self::Plain => TlsMode::Disabled,
        }
    }

    /// As it is noted: nothing for plaintext, of which nothing was noted before there was TLS.
    pub fn noted(self) -> Option<TlsMode> {
        (self == Self::Tls).then_some(TlsMode::Enabled)
    }

    /// Of a note.
    pub fn of_note(mode: Option<TlsMode>) -> Self {
        mode.map_or(Self::Plain, Self::of)
    }

    /// As URLs begin.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls => "https",
        }
    }
}

impl Observation {
    /// What this cluster talks. It was chosen before its first member, and is noted on what each keeps its data in, so that
    /// it outlives the `EtcdCluster`: what the data says of its peers' addresses does too.
    pub fn wire(&self) -> Wire {
        let status = &self.cluster.status;
        let noted = |claim: &ClaimFacts| claim.ownership == Ownership::Ours && claim.wire == Wire::Tls;
        // What members were rendered from says it too, should a note be lost.
        if self.claims.values().any(noted) || self.revisions.values().any(|it| it.wire() == Wire::Tls) {
            return Wire::Tls;
        }
        match &status.bootstrap {
            Some(bootstrap) => Wire::of_note(bootstrap.tls),
            // From before there was a note.
            None if status.cluster_id.is_some() || !self.claims.is_empty() => Wire::Plain,
            None => Wire::asked_for(&self.cluster.spec),
        }
    }
}
