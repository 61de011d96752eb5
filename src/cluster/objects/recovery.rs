//! The two Pods of a recovery, which run once each and behind no Service: one that copies the survivor's data, and one
//! that runs its etcd with `--force-new-cluster`. The flag acts on every start, so it stands in no Pod that is started
//! again, and in no revision.

use super::certificates;
use super::container::{DATA_DIR, ENV_MEMBER, MOUNT, VOLUME, from_field, peer_url};
use super::data::{volume_named, volume_of};
use super::metadata::annotations;
use super::pod::{Initial, initial_annotations};
use super::probe::ETCDUTL;
use crate::api::labels;
use crate::cluster::names::MemberName;
use crate::cluster::observation::Stage;
use crate::cluster::revision::Revision;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// A Pod of a recovery, to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecoveryPod {
    /// The loss that the recovery ends.
    pub incident: String,
    /// What it does.
    pub stage: Stage,
    /// Whose data it works on.
    pub member: MemberName,
    /// Whose claim the copy goes to: of a number that no member has or ever gets.
    pub copy: MemberName,
    /// The revision that it is made from.
    pub revision: String,
}

const COPY_VOLUME: &str = "copy";
const COPY_MOUNT: &str = "/var/lib/copy";
const ENV_POD_UID: &str = "QUORATE_POD_UID";

/// The name of a recovery's Pod: one for each loss and stage, so that a second attempt finds the first.
pub fn name(cluster: &str, stage: Stage, incident: &str) -> String {
    format!("{cluster}-{}-{incident}", stage.as_str())
}

/// The Pod.
pub fn pod(
    namespace: &str,
    cluster: &str,
    new: &NewRecoveryPod,
    revision: &Revision,
    owner: OwnerReference,
) -> Pod {
    let NewRecoveryPod { incident, stage, member, copy, .. } = new;
    // None of the member's own labels, nor of those that a user gives: whatever selects by them must not find it.
    let pod_labels = labels::of_component(cluster, labels::COMPONENT_RECOVERY);
    let mut annotations = annotations(&revision.template).cloned().unwrap_or_default();
    let wire = certificates::wire_of(&revision.template);
    annotations.extend(initial_annotations(namespace, member, &Initial::Guard, wire));
    annotations.extend([
        (labels::REVISION.to_owned(), revision.name.clone()),
        (labels::INCIDENT.to_owned(), incident.clone()),
        (labels::STAGE.to_owned(), stage.as_str().to_owned()),
    ]);
    let mut spec = revision.template.spec.clone().unwrap_or_default();
    let mut container = spec.containers.first().cloned().unwrap_or_default();
    // Nothing restarts it, and what it is asked for it is asked for by the operator.
    (container.startup_probe, container.liveness_probe, container.readiness_probe) = (None, None, None);
    let certificates = certificates::volumes_of(wire, member, &spec);
    let volumes = spec.volumes.get_or_insert_default();
    match stage {
        Stage::Copy => {
            volumes.push(volume_of(member, Some(true)));
            volumes.push(volume_named(COPY_VOLUME, copy, None));
            copies(&mut container, &peer_url(wire, &member.host(namespace)), member);
        }
        Stage::Force => {
            volumes.push(volume_of(member, None));
            volumes.extend(certificates);
            forces(&mut container, member);
        }
    }
    spec.restart_policy = Some("Never".to_owned());
    // No name of its own in the members' domain: who looks for the member finds nobody.
    (spec.hostname, spec.subdomain) = (None, None);
    spec.containers = vec![container];
    Pod {
        metadata: ObjectMeta {
            name: Some(name(cluster, *stage, incident)),
            namespace: Some(namespace.to_owned()),
            labels: Some(pod_labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// The images hold no shell and no `cp`. `etcdutl snapshot restore` reads the database without opening it, and makes of it
/// a data directory with every key and revision (measured with 3.5.35, 3.6.16 and 3.7.3). A directory that is there it
/// does not touch, so each attempt has its own.
fn copies(container: &mut Container, url: &str, member: &MemberName) {
    container.command = Some(vec![ETCDUTL.to_owned()]);
    container.args = Some(vec![
        "snapshot".to_owned(),
        "restore".to_owned(),
        format!("{DATA_DIR}/member/snap/db"),
        // A database that no snapshot command made has none.
        "--skip-hash-check".to_owned(),
        format!("--data-dir={COPY_MOUNT}/$({ENV_POD_UID})"),
        format!("--name={member}"),
        format!("--initial-cluster={member}={url}"),
        format!("--initial-advertise-peer-urls={url}"),
    ]);
    container.ports = None;
    container.env = Some(vec![from_field(ENV_POD_UID, "metadata.uid".to_owned())]);
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    container.volume_mounts =
        Some(vec![mount(VOLUME, MOUNT, Some(true)), mount(COPY_VOLUME, COPY_MOUNT, None)]);
}

fn forces(container: &mut Container, member: &MemberName) {
    container.args.get_or_insert_default().push("--force-new-cluster".to_owned());
    // The Pod has another name than the member.
    for env in container.env.iter_mut().flatten().filter(|env| env.name == ENV_MEMBER) {
        (env.value, env.value_from) = (Some(member.to_string()), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{NAME, NAMESPACE, member, owner, rendered};
    use crate::cluster::objects::checks::{found_by, violations};
    use kube::ResourceExt;
    use rstest::rstest;
    use serde_json::json;

    fn made(stage: Stage) -> Pod {
        let revision = rendered("{version: 3.6.16, pod: {labels: {app: mine}}}");
        let new = NewRecoveryPod {
            incident: "1a2b".to_owned(),
            stage,
            member: member(1),
            copy: member(3),
            revision: revision.name.clone(),
        };
        pod(NAMESPACE, NAME, &new, &revision, owner())
    }

    #[rstest]
    #[case(Stage::Copy)]
    #[case(Stage::Force)]
    fn runs_once_and_behind_no_service(#[case] stage: Stage) {
        let pod = made(stage);
        let spec = pod.spec.clone().unwrap();
        assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
        assert_eq!((spec.hostname, spec.subdomain), (None, None));
        assert_eq!(found_by(&pod), [""; 0]);
        assert!(!pod.labels().contains_key("app") && !pod.labels().contains_key(labels::MEMBER));
        assert_eq!(violations(&pod.spec.unwrap()), [""; 0]);
    }

    #[test]
    fn the_copy_reads_the_data_and_writes_elsewhere() {
        let spec = made(Stage::Copy).spec.unwrap();
        let container = &spec.containers[0];
        assert_eq!(container.command, Some(vec!["/usr/local/bin/etcdutl".to_owned()]));
        assert_eq!(
            json!(container.args),
            json!([
                "snapshot",
                "restore",
                "/var/lib/etcd/data/member/snap/db",
                "--skip-hash-check",
                "--data-dir=/var/lib/copy/$(QUORATE_POD_UID)",
                "--name=db-1",
                "--initial-cluster=db-1=http://db-1.db.prod.svc:2380",
                "--initial-advertise-peer-urls=http://db-1.db.prod.svc:2380",
            ])
        );
        assert_eq!(
            json!([spec.volumes, container.volume_mounts]),
            json!([
                [
                    { "name": "data", "persistentVolumeClaim": { "claimName": "data-db-1", "readOnly": true } },
                    { "name": "copy", "persistentVolumeClaim": { "claimName": "data-db-3" } },
                ],
                [
                    { "name": "data", "mountPath": "/var/lib/etcd", "readOnly": true },
                    { "name": "copy", "mountPath": "/var/lib/copy" },
                ],
            ])
        );
    }

    #[test]
    fn the_force_runs_the_member_itself_with_one_more_flag() {
        let (pod, revision) = (made(Stage::Force), rendered("{version: 3.6.16, pod: {labels: {app: mine}}}"));
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let mut args: Vec<String> = revision.args().map(str::to_owned).collect();
        args.push("--force-new-cluster".to_owned());
        assert_eq!(container.args, Some(args));
        let env = json!(container.env);
        assert_eq!(env[0], json!({ "name": "QUORATE_MEMBER", "value": "db-1" }));
        assert_eq!(pod.annotations()[labels::INITIAL_CLUSTER_STATE], "existing");
        assert_eq!(pod.annotations()[labels::INITIAL_CLUSTER], "db-1=http://db-1.db.prod.svc:2380");
    }
}
