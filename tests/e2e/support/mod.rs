//! A namespace for each test, and what every test needs to look at it.

pub mod apiserver;
mod chance;
pub mod cluster;
pub mod kubectl;
pub mod lab;
pub mod operator;
pub mod policy;
#[path = "../../support/processes.rs"]
pub mod processes;
pub mod sampler;
#[path = "../../support/say.rs"]
pub mod say;
pub mod store;
mod turn;
#[path = "../../support/writer.rs"]
#[allow(dead_code, reason = "the demo uses the rest")]
pub mod writer;

use apiserver::ApiServer;
pub use chance::Chance;
use cluster::Cluster;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt as _};
use operator::Operator;
use quorate::api::{EtcdCluster, FIELD_MANAGER};
use quorate::etcd::Channels;
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use turn::Turn;

/// The etcd images that the tests start.
#[allow(dead_code, reason = "what the lab must have, for the reader")]
pub const IMAGES: [&str; 5] = ["3.5.9", "3.5.10", "3.5.35", "3.6.16", "3.7.3"];

/// No test may take longer.
const WHOLE_TEST: Duration = Duration::from_mins(6);
/// How long the Pods of a test may take to go away after it.
const TEAR_DOWN: Duration = Duration::from_mins(1);
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Creation of three members, on a busy machine.
pub const FORMED_WITHIN: Duration = Duration::from_secs(90);
/// A roll over three members, on a busy machine.
pub const ROLLED_WITHIN: Duration = Duration::from_secs(150);
/// Three rolls one after the other, and the raft snapshots before the last.
pub const EVERY_HOP_WITHIN: Duration = Duration::from_mins(4);
/// What the operator says at its next look.
pub const SAID_WITHIN: Duration = Duration::from_secs(30);

/// The namespace of one test.
pub struct Space {
    pub client: Client,
    pub namespace: String,
    channels: Channels,
    logs: Mutex<Vec<PathBuf>>,
    /// Held until nothing of the test is left.
    _turn: Turn,
}

/// Runs a test in a namespace of its own, which goes afterwards. What went wrong is shown with the end of the operators' logs.
pub fn run(name: &str, body: impl AsyncFnOnce(&Space)) {
    run_on(name, false, body);
}

/// The same for a test whose effect is not kept to its namespace: no other one runs meanwhile.
pub fn run_alone(name: &str, body: impl AsyncFnOnce(&Space)) {
    run_on(name, true, body);
}

fn run_on(name: &str, alone: bool, body: impl AsyncFnOnce(&Space)) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let space = Space::new(name, Turn::wait_for(alone).await).await;
        let began = Instant::now();
        let test = AssertUnwindSafe(tokio::time::timeout(WHOLE_TEST, body(&space)));
        let outcome = test.catch_unwind().await;
        let failed = !matches!(outcome, Ok(Ok(())));
        println!(
            "{name}: {} after {} s",
            if failed { "failed" } else { "passed" },
            began.elapsed().as_secs()
        );
        if failed {
            space.show().await;
        }
        if !failed || std::env::var_os("QUORATE_KEEP").is_none() {
            space.tear_down().await;
        }
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("{name} was not done within {WHOLE_TEST:?}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    runtime.shutdown_background();
}

impl Space {
    async fn new(name: &str, turn: Turn) -> Self {
        let mut config = Config::infer().await.expect("a kubeconfig; `eval \"$(lab/lab env)\"` sets one");
        // An eviction that the budget forbids is answered with 429, which a test wants to hear.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        apply_the_kind(&client).await;
        let tag = jiff::Timestamp::now().as_millisecond() % 100_000_000;
        let namespace = format!("e2e-{name}-{tag}");
        let object: Namespace = serde_json::from_value(json!({ "metadata": {
            "name": namespace,
            "labels": { "pod-security.kubernetes.io/enforce": "restricted", "quorate-e2e": "true" },
        }}))
        .unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Self { client, namespace, channels: Channels::default(), logs: Mutex::default(), _turn: turn }
    }

    /// An operator for this namespace. It ends with what is returned.
    pub fn operator(&self) -> Operator {
        self.operator_and(&[])
    }

    /// The same with more arguments.
    pub fn operator_and(&self, more: &[&str]) -> Operator {
        let args = [&["--leader-elect=false", "--watch-namespaces", &self.namespace], more].concat();
        self.operator_with(&args)
    }

    /// An operator with these arguments.
    pub fn operator_with(&self, args: &[&str]) -> Operator {
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        Operator::start(&args, None, self.next_log())
    }

    /// An operator for another API server.
    pub fn operator_of(&self, server: &ApiServer, args: &[&str]) -> Operator {
        Operator::start(args, Some(&server.kubeconfig), self.next_log())
    }

    /// Where the next operator writes its log.
    fn next_log(&self) -> PathBuf {
        let mut logs = self.logs.lock().unwrap();
        let log =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}.log", self.namespace, logs.len()));
        logs.push(log.clone());
        log
    }

    /// The cluster of that name, whether it is there or not.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster::new(self.client.clone(), &self.namespace, name, self.channels.clone())
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn show(&self) {
        for cluster in self.api::<EtcdCluster>().list(&ListParams::default()).await.into_iter().flatten() {
            let status = serde_json::to_string_pretty(&cluster.status).unwrap();
            eprintln!("-- EtcdCluster {}\n{status}", cluster.name_any());
        }
        for pod in self.api::<Pod>().list(&ListParams::default()).await.into_iter().flatten() {
            let status = pod.status.clone().unwrap_or_default();
            eprintln!(
                "-- Pod {} uid {:?} deleting {} phase {:?} ip {:?} containers {}",
                pod.name_any(),
                pod.uid(),
                pod.metadata.deletion_timestamp.is_some(),
                status.phase,
                status.pod_ip,
                serde_json::to_string(&status.container_statuses).unwrap()
            );
        }
        for log in self.logs.lock().unwrap().iter() {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            eprintln!("-- {}\n{}", log.display(), lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }

    /// Everything goes with the namespace; no finalizer of ours waits for an operator that is gone.
    async fn tear_down(&self) {
        let clusters = self.api::<EtcdCluster>();
        for cluster in clusters.list(&ListParams::default()).await.into_iter().flatten() {
            let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
            let _ = clusters.patch(&cluster.name_any(), &PatchParams::default(), &none).await;
        }
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let _ = namespaces.delete(&self.namespace, &DeleteParams::default()).await;
        let until = Instant::now() + TEAR_DOWN;
        while Instant::now() < until {
            match self.api::<Pod>().list(&ListParams::default()).await {
                Ok(pods) if pods.items.is_empty() => break,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        for log in self.logs.lock().unwrap().iter().filter(|_| !std::thread::panicking()) {
            let _ = std::fs::remove_file(log);
        }
    }
}

/// The lab's kind; once is enough.
async fn apply_the_kind(client: &Client) {
    static DONE: tokio::sync::Mutex<bool> = tokio::sync::Mutex::const_new(false);
    let mut done = DONE.lock().await;
    if !*done {
        apply_the_kind_to(client).await;
        *done = true;
    }
}

/// The kind, as this code has it. Where it is there already nothing changes.
pub async fn apply_the_kind_to(client: &Client) {
    let crd = quorate::api::crd(quorate::etcd::versions::OWNED_FLAGS);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let kinds = Api::<CustomResourceDefinition>::all(client.clone());
    kinds.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await.unwrap();
    // A kind is accepted at once and served a moment later; until then its path answers 404.
    let clusters = Api::<EtcdCluster>::all(client.clone());
    until("the kind is served", SAID_WITHIN, async || {
        clusters.list_metadata(&ListParams::default().limit(1)).await.ok()
    })
    .await;
}

/// Looks until there is an answer.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
