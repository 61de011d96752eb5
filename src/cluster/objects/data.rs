//! What a member keeps its data in: a volume, or its Pod itself.

use super::container::VOLUME;
use crate::api::{EmptyDir, Medium};
use crate::cluster::names::MemberName;
use crate::cluster::spec::Desired;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;

/// Whether a Pod keeps its member's data itself.
pub fn keeps_data(spec: &PodSpec) -> bool {
    data_in_pod(spec).is_some()
}

/// What a Pod keeps its member's data in, where it does.
pub fn data_in_pod(spec: &PodSpec) -> Option<&EmptyDirVolumeSource> {
    let volumes = spec.volumes.iter().flatten();
    volumes.into_iter().find(|volume| volume.name == VOLUME)?.empty_dir.as_ref()
}

pub(super) fn volume_in_pod(dir: &EmptyDir, desired: &Desired) -> Volume {
    let medium = dir.medium.map(|Medium::Memory| "Memory".to_owned());
    let size_limit = Some(KubeQuantity(desired.storage_size.as_str().to_owned()));
    let empty_dir = Some(EmptyDirVolumeSource { medium, size_limit });
    Volume { name: VOLUME.to_owned(), empty_dir, ..Volume::default() }
}

/// A member's volume.
pub(super) fn volume_of(member: &MemberName, read_only: Option<bool>) -> Volume {
    volume_named(VOLUME, member, read_only)
}

/// The same under another name.
pub(super) fn volume_named(name: &str, member: &MemberName, read_only: Option<bool>) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: member.claim(),
            read_only,
        }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BootstrapStatus, MemberRole, labels};
    use crate::cluster::fixtures::{NAME, NAMESPACE, member as named, owner, rendered};
    use crate::cluster::objects::claim::{Purpose, notes};
    use crate::cluster::objects::pod::{Initial, NewPod, is_not_yet, member, not_yet};
    use crate::cluster::wire::Wire;
    use kube::ResourceExt;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case::on_the_nodes_disk("{}", json!({ "sizeLimit": "2Gi" }))]
    #[case::in_memory("{medium: Memory}", json!({ "medium": "Memory", "sizeLimit": "2Gi" }))]
    fn a_pod_that_keeps_its_data_waits_and_says_what_a_claim_would(#[case] dir: &str, #[case] volume: Value) {
        let revision = rendered(&format!("{{version: 3.6.16, storage: {{size: 2Gi, emptyDir: {dir}}}}}"));
        let new = NewPod {
            member: named(1),
            revision: revision.name.clone(),
            initial: Initial::Guard,
            role: MemberRole::Voter,
        };
        let (version, token) = ("3.6.16".to_owned(), "token".to_owned());
        let bootstrap = BootstrapStatus { members: 3, version, token, started: false, tls: None };
        let written = notes(&Purpose::Bootstrap(bootstrap, Some(revision.name.clone())), Wire::Plain);
        let pod = not_yet(NAMESPACE, NAME, &new, &revision.template, written, owner());
        assert!(is_not_yet(&pod));
        assert_eq!(pod.annotations()[labels::ASSIGNED], revision.name);
        assert!(pod.annotations()[labels::BOOTSTRAP].contains("token"));
        let volumes = json!(pod.spec.unwrap().volumes);
        assert_eq!(volumes, json!([{ "name": "data", "emptyDir": volume }]));
    }

    #[test]
    fn others_have_a_volume_and_wait_for_nothing() {
        let revision = rendered("version: 3.6.16");
        let new = NewPod {
            member: named(1),
            revision: revision.name.clone(),
            initial: Initial::Guard,
            role: MemberRole::Voter,
        };
        let pod = member(NAMESPACE, NAME, &new, &revision.template, owner());
        assert!(!is_not_yet(&pod) && !keeps_data(pod.spec.as_ref().unwrap()));
    }
}
