//! One `EtcdCluster`: what is asked of it, and what it is, by Kubernetes' and etcd's own word.

use super::{FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, until};
use etcd_client::{Certificate, TlsOptions};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use quorate::api::{ConditionType, EtcdCluster, EtcdClusterStatus, find_condition, labels};
use quorate::etcd::{
    Channels, ClusterId, Credentials, Endpoint, ListedMember, MemberClient, MemberId, MemberStatus,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A name in a namespace.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    pub namespace: String,
    pub name: String,
    channels: Channels,
    /// With what an application speaks to members that talk TLS.
    pub tls: Option<TlsOptions>,
}

/// A spec for tests: small volumes, small requests, little patience.
pub fn spec(version: &str, replicas: i32) -> Value {
    json!({
        "version": version,
        "replicas": replicas,
        "storage": { "size": "1Gi" },
        "pod": { "resources": { "requests": { "cpu": "10m", "memory": "32Mi" } } },
        "rollout": { "memberDeadline": "20s" },
    })
}

/// What must be equal before and after, by etcd's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub members: BTreeMap<String, MemberId>,
}

impl Cluster {
    pub fn new(client: Client, namespace: &str, name: &str, channels: Channels) -> Self {
        Self { client, namespace: namespace.to_owned(), name: name.to_owned(), channels, tls: None }
    }

    /// Speaks to members from here on as an application does, with its Secret.
    pub async fn seen_by_its_application(mut self) -> Self {
        let secret = format!("{}-client-tls", self.name);
        let [ca, certificate, key] = self.secret(&secret).await;
        let credentials = Credentials::new(&ca, &certificate, &key).unwrap();
        self.channels.show(&self.name, Some(Arc::new(credentials)));
        let identity = etcd_client::Identity::from_pem(&certificate, &key);
        let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(&ca)).identity(identity);
        // Members are dialled by address here.
        self.tls = Some(tls.domain_name(format!("{}-client", self.name)));
        self
    }

    /// `ca.crt`, `tls.crt` and `tls.key` of a Secret.
    pub async fn secret(&self, name: &str) -> [String; 3] {
        let data = self.api::<Secret>().get(name).await.unwrap().data.unwrap();
        ["ca.crt", "tls.crt", "tls.key"].map(|key| String::from_utf8(data[key].0.clone()).unwrap())
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// # Errors
    /// What the API server refuses.
    pub async fn try_create(&self, spec: Value) -> Result<EtcdCluster, kube::Error> {
        let object = json!({
            "apiVersion": "quorate.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": { "name": self.name }, "spec": spec,
        });
        // As kubectl sends it, not as our types would write it.
        let request = http::Request::post(format!(
            "/apis/quorate.dev/v1alpha1/namespaces/{}/etcdclusters?fieldValidation=Strict",
            self.namespace
        ))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&object).unwrap())
        .unwrap();
        self.client.request(request).await
    }

    pub async fn create(&self, spec: Value) -> EtcdCluster {
        self.try_create(spec).await.unwrap()
    }

    /// Creates it and waits until it is ready.
    pub async fn formed(&self, spec: Value) -> Identity {
        self.create(spec).await;
        self.ready(FORMED_WITHIN).await;
        self.identity().await
    }

    /// Waits until no start of a container can use the arguments of the bootstrap any more. The kubelet takes
    /// the guard up to a second after it is on the Pod, and no API says when: see `plan::guard`.
    pub async fn guarded(&self) {
        const TAKEN_BY_THE_KUBELET: Duration = Duration::from_secs(3);
        let state = |pod: &Pod| pod.annotations().get(labels::INITIAL_CLUSTER_STATE).cloned();
        until("every Pod has its guard", super::SAID_WITHIN, async || {
            self.pods().await.values().all(|pod| state(pod).as_deref() == Some("existing")).then_some(())
        })
        .await;
        tokio::time::sleep(TAKEN_BY_THE_KUBELET).await;
    }

    /// # Errors
    /// What the API server refuses.
    pub async fn try_edit(&self, spec: Value) -> Result<EtcdCluster, kube::Error> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api::<EtcdCluster>().patch(&self.name, &PatchParams::default(), &patch).await
    }

    /// Changes fields of the spec.
    pub async fn edit(&self, spec: Value) -> EtcdCluster {
        self.try_edit(spec).await.unwrap()
    }

    /// Changes fields of the spec and waits until all members are what it says.
    pub async fn rolled(&self, spec: Value) {
        self.edit(spec).await;
        self.ready(ROLLED_WITHIN).await;
    }

    pub async fn get(&self) -> EtcdCluster {
        self.api::<EtcdCluster>().get(&self.name).await.unwrap()
    }

    pub async fn status(&self) -> EtcdClusterStatus {
        self.get().await.status.unwrap_or_default()
    }

    /// Deletes the object and waits until it is gone.
    pub async fn delete(&self, limit: Duration) {
        let clusters = self.api::<EtcdCluster>();
        clusters.delete(&self.name, &DeleteParams::default()).await.unwrap();
        until("the EtcdCluster is gone", limit, async || {
            clusters.get_opt(&self.name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// Waits until the object is as asked, and shows its status if it never is.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&EtcdCluster) -> bool,
    ) -> EtcdCluster {
        let began = std::time::Instant::now();
        loop {
            let cluster = self.get().await;
            if holds(&cluster) {
                return cluster;
            }
            assert!(began.elapsed() < limit, "not within {limit:?}: {what}; conditions: {}", shown(&cluster));
            tokio::time::sleep(super::LOOK).await;
        }
    }

    /// Waits as `kubectl wait --for=condition=Ready` and kstatus do, for the newest spec.
    pub async fn ready(&self, limit: Duration) -> EtcdCluster {
        self.until("Ready", limit, is_ready).await
    }

    /// Waits until it is stalled for this reason, and returns the message.
    pub async fn stalled(&self, reason: &str, limit: Duration) -> String {
        let what = format!("Stalled with {reason}");
        let cluster = self
            .until(&what, limit, |cluster| {
                condition(cluster, ConditionType::Stalled).is_some_and(|stalled| {
                    stalled.reason == reason && stalled.observed_generation == cluster.metadata.generation
                })
            })
            .await;
        let status = cluster.status.as_ref().unwrap();
        assert!(find_condition(&status.conditions, ConditionType::Reconciling).is_none(), "never both");
        let ready = find_condition(&status.conditions, ConditionType::Ready).unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", reason));
        condition(&cluster, ConditionType::Stalled).unwrap().message.clone()
    }

    /// The members' Pods by name, those that are going away too.
    pub async fn pods(&self) -> BTreeMap<String, Pod> {
        let of_members = format!(
            "{},{}={}",
            labels::selector_of_cluster(&self.name),
            labels::COMPONENT,
            labels::COMPONENT_MEMBER
        );
        let pods = self.api::<Pod>().list(&ListParams::default().labels(&of_members)).await.unwrap();
        pods.items.into_iter().map(|pod| (pod.name_any(), pod)).collect()
    }

    pub async fn pod_uids(&self) -> BTreeMap<String, String> {
        self.pods().await.into_iter().map(|(name, pod)| (name, pod.uid().unwrap())).collect()
    }

    /// UID and count of the container's restarts: what changes when a member is disturbed.
    pub async fn runs(&self) -> BTreeMap<String, (String, i32)> {
        self.pods()
            .await
            .into_iter()
            .map(|(name, pod)| (name, (pod.uid().unwrap(), restarts(&pod))))
            .collect()
    }

    pub async fn claims(&self) -> BTreeMap<String, PersistentVolumeClaim> {
        let all = ListParams::default().labels(&labels::selector_of_cluster(&self.name));
        let claims = self.api::<PersistentVolumeClaim>().list(&all).await.unwrap();
        claims.items.into_iter().map(|claim| (claim.name_any(), claim)).collect()
    }

    /// Events about the cluster in the order in which they were written: reason and note.
    pub async fn events(&self) -> Vec<(String, String)> {
        let uid = self.get().await.uid();
        let mut events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| event.regarding.as_ref().is_some_and(|regarding| regarding.uid == uid));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        events
            .into_iter()
            .map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default()))
            .collect()
    }

    /// Their reasons alone.
    pub async fn event_reasons(&self) -> Vec<String> {
        self.events().await.into_iter().map(|(reason, _)| reason).collect()
    }

    /// The client for a Pod's member, if the Pod has an address.
    pub fn member(&self, pod: &Pod) -> Option<MemberClient> {
        let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        let server_name = format!("{}.{}.{}.svc", pod.name_any(), self.name, self.namespace);
        let endpoint = Endpoint { pod_uid: pod.uid()?, ip, server_name };
        Some(self.channels.member(&self.name, &endpoint))
    }

    /// The client URLs of Pods that are not going away, by address.
    pub async fn endpoints(&self) -> Vec<String> {
        endpoints(self.pods().await.values())
    }

    /// What every member says of itself. All must answer.
    pub async fn statuses(&self) -> BTreeMap<String, MemberStatus> {
        let mut statuses = BTreeMap::new();
        for (name, pod) in self.pods().await {
            let client = self.member(&pod).unwrap_or_else(|| panic!("{name} has no address"));
            statuses.insert(name, client.status().await.unwrap());
        }
        statuses
    }

    /// etcd's member list is these voters and nobody else, each with a Pod and a volume claim, and the same data.
    pub async fn assert_members(&self, names: &[&str]) {
        self.assert_members_kept(names, &[]).await;
    }

    /// The same, and these claims are kept aside.
    pub async fn assert_members_kept(&self, names: &[&str], kept: &[&str]) {
        let listed = self.member_list().await;
        assert_eq!(listed.keys().map(String::as_str).collect::<Vec<_>>(), names);
        assert!(listed.values().all(|member| !member.is_learner), "{listed:?}");
        // What was of others takes a moment to go.
        let storage = self.get().await.spec.storage;
        let in_pods = storage.is_some_and(|storage| storage.empty_dir.is_some());
        let of_members = names.iter().filter(|_| !in_pods);
        let claims: Vec<String> = of_members.map(|name| format!("data-{name}")).collect();
        until("only these have Pods and volumes", SAID_WITHIN, async || {
            let pods = self.pods().await;
            let same_pods = pods.keys().map(String::as_str).eq(names.iter().copied());
            let (aside, in_use): (BTreeMap<_, _>, BTreeMap<_, _>) = self
                .claims()
                .await
                .into_iter()
                .partition(|(_, claim)| claim.labels().contains_key(labels::SET_ASIDE));
            let same_kept = aside.keys().map(String::as_str).eq(kept.iter().copied());
            (same_pods && same_kept && in_use.keys().eq(&claims)).then_some(())
        })
        .await;
        let budget = self.api::<PodDisruptionBudget>().get(&self.name).await.unwrap();
        let minimum = budget.spec.unwrap().min_available;
        let must_stay = i32::try_from(names.len() - 1).unwrap();
        assert_eq!(minimum, Some(IntOrString::Int(must_stay)));
        self.assert_same_data().await;
    }

    /// etcd's member list, by name.
    pub async fn member_list(&self) -> BTreeMap<String, ListedMember> {
        self.try_member_list().await.expect("a member that gives the list")
    }

    /// The same, where a member gives it.
    pub async fn try_member_list(&self) -> Option<BTreeMap<String, ListedMember>> {
        for pod in self.pods().await.values() {
            let Some(client) = self.member(pod) else { continue };
            if let Ok(list) = client.member_list().await {
                return Some(list.into_iter().map(|member| (member.name.clone(), member)).collect());
            }
        }
        None
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Who the cluster is, by every member's own word. All must agree.
    pub async fn identity(&self) -> Identity {
        let statuses = self.statuses().await;
        let cluster = statuses.values().next().expect("a member").cluster_id;
        assert!(statuses.values().all(|status| status.cluster_id == cluster), "two clusters: {statuses:?}");
        let members = statuses.into_iter().map(|(name, status)| (name, status.member_id)).collect();
        Identity { cluster, members }
    }

    /// As `kubectl annotate --overwrite` does.
    pub async fn annotate(&self, key: &str, value: &str) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { key: value } } }));
        let clusters = self.api::<EtcdCluster>();
        clusters.patch(&self.name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Makes this member the leader.
    pub async fn lead(&self, name: &str) {
        let (statuses, pods) = (self.statuses().await, self.pods().await);
        let to = statuses[name].member_id;
        let (leader, status) =
            statuses.iter().find(|(_, status)| status.leader == Some(status.member_id)).unwrap();
        if leader != name {
            let client = self.member(&pods[leader]).unwrap();
            client.move_leader(status.identity(), to).await.unwrap();
        }
    }

    /// Waits until a new cluster's members agree on the cluster version, which takes etcd up to five seconds, and
    /// the status says so.
    pub async fn decided(&self, version: &str) {
        let minor = format!("{}.0", version.rsplit_once('.').unwrap().0);
        self.until("the cluster version is in the status", SAID_WITHIN, |cluster| {
            cluster.status.as_ref().and_then(|status| status.cluster_version.as_ref()) == Some(&minor)
        })
        .await;
        self.assert_version(version).await;
    }

    /// Every member says that it runs this version, and that the cluster version is its minor.
    pub async fn assert_version(&self, version: &str) {
        let minor = version.rsplit_once('.').unwrap().0;
        for (name, pod) in self.pods().await {
            let versions = self.member(&pod).unwrap().versions().await.unwrap();
            assert_eq!(versions.server.to_string(), version, "{name}");
            assert_eq!(versions.cluster.unwrap().to_string(), minor, "{name}");
        }
    }

    /// Replaces the status subresource as a whole.
    ///
    /// # Errors
    /// When somebody else wrote meanwhile.
    pub async fn put_status(&self, status: Value) -> Result<EtcdCluster, kube::Error> {
        let mut object = serde_json::to_value(self.get().await).unwrap();
        object["status"] = status;
        let object: EtcdCluster = serde_json::from_value(object).unwrap();
        self.api::<EtcdCluster>().replace_status(&self.name, &PostParams::default(), &object).await
    }
}

/// Of those that vote: a learner answers no client.
pub fn endpoints<'a>(pods: impl Iterator<Item = &'a Pod>) -> Vec<String> {
    pods.filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| pod.labels().get(labels::ROLE).is_some_and(|role| role == labels::ROLE_VOTER))
        .filter_map(|pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let scheme = if volumes.into_iter().any(|it| it.secret.is_some()) { "https" } else { "http" };
            Some(format!("{scheme}://{}:2379", pod.status.as_ref()?.pod_ip.as_ref()?))
        })
        .collect()
}

pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.container_statuses.as_ref()?.first())
        .map_or(0, |status| status.restart_count)
}

pub fn condition(cluster: &EtcdCluster, kind: ConditionType) -> Option<&Condition> {
    find_condition(&cluster.status.as_ref()?.conditions, kind)
}

/// Ready, and for the spec as it is now.
pub fn is_ready(cluster: &EtcdCluster) -> bool {
    let generation = cluster.metadata.generation;
    cluster.status.as_ref().is_some_and(|status| status.observed_generation == generation)
        && condition(cluster, ConditionType::Ready)
            .is_some_and(|ready| ready.status == "True" && ready.observed_generation == generation)
}

fn shown(cluster: &EtcdCluster) -> String {
    let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let conditions: Vec<String> =
        conditions.map(|c| format!("{}={} {} {:?}", c.type_, c.status, c.reason, c.message)).collect();
    conditions.join("; ")
}
