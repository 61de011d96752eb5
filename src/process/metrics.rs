//! What Quorate counts about itself, in the `OpenMetrics` text format.
//!
//! Methods are named for what happened; only this file knows the names of the metrics. Labels come from
//! closed lists (enums, static words), but for a cluster's namespace and name, which go with the cluster.

use crate::api::{Code, ConditionType, find_condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Seconds. A reconcile of a healthy cluster is some reads of each member; a sick one runs into time limits.
const RECONCILE_BUCKETS: [f64; 13] =
    [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Every type has a sample for every cluster, also while the condition is absent: an alert on a series
/// that comes and goes is hard to write.
const CONDITIONS: [ConditionType; 5] = [
    ConditionType::Available,
    ConditionType::Ready,
    ConditionType::Reconciling,
    ConditionType::Stalled,
    ConditionType::Paused,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Quorate's metrics. Clones share the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconcile: Histogram,
    errors: Family<Labels<1>, Counter>,
    steps: Family<Labels<2>, Counter>,
    leader: Gauge,
    clusters: Clusters,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero, this build's version known, no cluster seen.
    pub fn new() -> Self {
        let reconcile = Histogram::new(RECONCILE_BUCKETS);
        let errors = Family::<Labels<1>, Counter>::default();
        let steps = Family::<Labels<2>, Counter>::default();
        let leader = Gauge::default();
        let clusters = Clusters::default();

        let mut registry = Registry::with_prefix("quorate");
        registry.register("build", "The running build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("leader", "Whether this replica holds the lease and acts", leader.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long one pass over one cluster took, failed ones included",
            Unit::Seconds,
            reconcile.clone(),
        );
        registry.register("reconcile_errors", "Passes that failed, by kind of error", errors.clone());
        registry.register("steps", "Steps carried out, by action and code", steps.clone());
        registry.register_collector(Box::new(clusters.clone()));
        Self(Arc::new(Inner { registry, reconcile, errors, steps, leader, clusters }))
    }

    /// One pass over one cluster ended; `error` is the kind of its error, a word of a closed list.
    pub fn reconciled(&self, took: Duration, error: Option<&'static str>) {
        self.0.reconcile.observe(took.as_secs_f64());
        if let Some(kind) = error {
            self.0.errors.get_or_create(&[("kind", kind)]).inc();
        }
    }

    /// A step was carried out: `action` is the planner's word for it, `code` the news that it is.
    pub fn step(&self, action: &'static str, code: Code) {
        self.0.steps.get_or_create(&[("action", action), ("code", code.as_str())]).inc();
    }

    /// A cluster's conditions were reported. What was said before is replaced.
    pub fn conditions(&self, namespace: &str, name: &str, conditions: &[Condition]) {
        self.0.clusters.entry(namespace, name, |cluster| {
            cluster.conditions =
                CONDITIONS.map(|kind| find_condition(conditions, kind).is_some_and(|c| c.status == "True"));
        });
    }

    /// A cluster's refusals were reported; none takes them all back.
    pub fn refusals(&self, namespace: &str, name: &str, codes: impl IntoIterator<Item = Code>) {
        let mut codes: Vec<Code> = codes.into_iter().collect();
        // One code may refuse several members; a series may stand only once in the text.
        codes.sort_unstable();
        codes.dedup();
        self.0.clusters.entry(namespace, name, |cluster| cluster.refusals = codes);
    }

    /// A cluster is gone, and its series with it.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.0.clusters.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Every cluster is forgotten: this replica no longer watches.
    pub fn forget_all(&self) {
        self.0.clusters.lock().clear();
    }

    /// This replica leads, or does not.
    pub fn leading(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// The text of a scrape.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry)?;
        Ok(out)
    }
}

#[derive(Debug, Default)]
struct Cluster {
    /// In the order of [`CONDITIONS`].
    conditions: [bool; CONDITIONS.len()],
    refusals: Vec<Code>,
}

/// What was last reported of each cluster, by namespace and name. Read at each scrape, so that a series
/// never outlives what it speaks of.
#[derive(Clone, Debug, Default)]
struct Clusters(Arc<Mutex<BTreeMap<(String, String), Cluster>>>);

impl Clusters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Cluster>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, namespace: &str, name: &str, set: impl FnOnce(&mut Cluster)) {
        set(self.lock().entry((namespace.to_owned(), name.to_owned())).or_default());
    }
}

impl Collector for Clusters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let clusters = self.lock();

        let help = "Whether a condition of a cluster is true.";
        let mut family = encoder.encode_descriptor("cluster_condition", help, None, MetricType::Gauge)?;
        for ((namespace, name), cluster) in clusters.iter() {
            for (kind, value) in CONDITIONS.iter().zip(cluster.conditions) {
                let labels =
                    [("namespace", namespace.as_str()), ("name", name), ("condition", kind.as_str())];
                gauge(&mut family, &labels, i64::from(value))?;
            }
        }

        let help = "What the operator refuses to do for a cluster, by code; 1 while it refuses.";
        let mut family = encoder.encode_descriptor("cluster_refusal", help, None, MetricType::Gauge)?;
        for ((namespace, name), cluster) in clusters.iter() {
            for code in &cluster.refusals {
                let labels = [("namespace", namespace.as_str()), ("name", name), ("code", code.as_str())];
                gauge(&mut family, &labels, 1)?;
            }
        }
        Ok(())
    }
}

fn gauge(
    family: &mut prometheus_client::encoding::MetricEncoder<'_>,
    labels: &[(&str, &str); 3],
    value: i64,
) -> Result<(), fmt::Error> {
    use prometheus_client::encoding::EncodeMetric;
    ConstGauge::new(value).encode(family.encode_family(labels)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition;

    fn text(metrics: &Metrics) -> Vec<String> {
        metrics.encode().unwrap().lines().map(str::to_owned).collect()
    }

    fn has(metrics: &Metrics, line: &str) {
        let lines = text(metrics);
        assert!(lines.iter().any(|l| l == line), "{line:?} is missing in\n{}", lines.join("\n"));
    }

    fn reported(kind: ConditionType, status: bool) -> Condition {
        condition(kind, status, Code::Serving, String::new(), 1, jiff::Timestamp::UNIX_EPOCH, &[])
    }

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::new();
        metrics.reconciled(Duration::from_millis(3), None);
        metrics.reconciled(Duration::from_secs(3), Some("kubernetes"));
        metrics.step("stop-member", Code::MemberStopped);
        metrics.clone().step("stop-member", Code::MemberStopped);
        metrics.leading(true);
        has(&metrics, "quorate_reconcile_duration_seconds_count 2");
        has(&metrics, "quorate_reconcile_duration_seconds_bucket{le=\"0.005\"} 1");
        has(&metrics, "quorate_reconcile_errors_total{kind=\"kubernetes\"} 1");
        has(&metrics, "quorate_steps_total{action=\"stop-member\",code=\"MemberStopped\"} 2");
        has(&metrics, "quorate_leader 1");
        has(&metrics, &format!("quorate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        has(&metrics, "# EOF");
    }

    #[test]
    fn an_absent_condition_is_zero_and_a_report_replaces_the_one_before() {
        let metrics = Metrics::new();
        metrics.conditions("apps", "db", &[reported(ConditionType::Stalled, true)]);
        has(&metrics, "quorate_cluster_condition{namespace=\"apps\",name=\"db\",condition=\"Stalled\"} 1");
        has(&metrics, "quorate_cluster_condition{namespace=\"apps\",name=\"db\",condition=\"Ready\"} 0");
        metrics.conditions("apps", "db", &[reported(ConditionType::Ready, true)]);
        has(&metrics, "quorate_cluster_condition{namespace=\"apps\",name=\"db\",condition=\"Stalled\"} 0");
        has(&metrics, "quorate_cluster_condition{namespace=\"apps\",name=\"db\",condition=\"Ready\"} 1");
    }

    #[test]
    fn a_refusal_stands_once_and_goes_when_it_is_taken_back() {
        let metrics = Metrics::new();
        let line = "quorate_cluster_refusal{namespace=\"apps\",name=\"db\",code=\"MemberFailed\"} 1";
        metrics.refusals("apps", "db", [Code::MemberFailed, Code::InvalidSpec, Code::MemberFailed]);
        assert_eq!(text(&metrics).iter().filter(|l| *l == line).count(), 1);
        metrics.refusals("apps", "db", []);
        assert!(!text(&metrics).iter().any(|l| l.starts_with("quorate_cluster_refusal{")));
    }

    #[test]
    fn a_cluster_that_went_leaves_no_series() {
        let metrics = Metrics::new();
        metrics.conditions("apps", "db", &[]);
        metrics.conditions("other", "db", &[]);
        metrics.forget("apps", "db");
        let left = text(&metrics).join("\n");
        assert!(!left.contains("namespace=\"apps\"") && left.contains("namespace=\"other\""), "{left}");
        metrics.forget_all();
        assert!(!text(&metrics).join("\n").contains("namespace="));
    }
}
