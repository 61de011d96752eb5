//! Which etcd a Kubernetes control plane is tested with. Advice: kube-apiserver works with older and newer
//! ones, and nothing is refused for it.

use crate::etcd::{EtcdVersion, Minor};

/// What kubeadm installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubernetesLine {
    /// The minor of Kubernetes.
    pub kubernetes: Minor,
    /// The etcd that kubeadm installs with its latest patch.
    pub etcd: EtcdVersion,
    /// Where that is written.
    pub source: &'static str,
}

const fn line(minor: u64, etcd: (u64, u64), source: &'static str) -> KubernetesLine {
    KubernetesLine { kubernetes: Minor::new(1, minor), etcd: EtcdVersion::new(3, etcd.0, etcd.1), source }
}

/// kubeadm's own table (`SupportedEtcdVersion`), by minor of Kubernetes.
pub const KUBERNETES: &[KubernetesLine] = &[
    line(29, (5, 24), KUBEADM_1_33),
    line(30, (5, 24), KUBEADM_1_33),
    line(31, (5, 24), KUBEADM_1_33),
    line(32, (5, 24), KUBEADM_1_33),
    line(33, (5, 24), KUBEADM_1_33),
    line(34, (6, 11), "https://github.com/kubernetes/kubernetes/pull/138746"),
    line(35, (6, 11), "https://github.com/kubernetes/kubernetes/pull/138746"),
    line(36, (6, 11), "https://github.com/kubernetes/kubernetes/pull/138746"),
    line(37, (7, 1), "https://github.com/kubernetes/kubernetes/pull/141032"),
];

const KUBEADM_1_33: &str =
    "https://github.com/kubernetes/kubernetes/blob/release-1.33/cmd/kubeadm/app/constants/constants.go";

/// The first releases whose watches kube-apiserver trusts for lists from its cache: of 3.4, and of all later.
pub const CONSISTENT_READS: [EtcdVersion; 2] = [EtcdVersion::new(3, 4, 31), EtcdVersion::new(3, 5, 13)];

/// Where [`CONSISTENT_READS`] is written.
pub const CONSISTENT_READS_SOURCE: &str = "https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apiserver/pkg/storage/feature/feature_support_checker.go";

/// The first Kubernetes that asks etcd for them (`ConsistentListFromCache`, on by default).
pub const ASKS_FOR_CONSISTENT_READS: Minor = Minor::new(1, 31);

/// Whether kube-apiserver serves consistent lists from its cache with this etcd.
pub fn serves_consistent_reads(etcd: EtcdVersion) -> bool {
    let [of_3_4, later] = CONSISTENT_READS;
    etcd >= later || (etcd >= of_3_4 && etcd.minor == of_3_4.minor)
}

/// What whoever runs a control plane of this Kubernetes should know of this etcd; nothing where all is well
/// or nothing is known. `kubernetes` is a version such as `1.34` or `v1.34.4`.
pub fn advice(kubernetes: &str, etcd: EtcdVersion) -> Option<String> {
    let Some(minor) = minor_of(kubernetes) else {
        return Some(format!("{kubernetes:?} is no Kubernetes version; write e.g. 1.34"));
    };
    if minor >= ASKS_FOR_CONSISTENT_READS && !serves_consistent_reads(etcd) {
        return Some(format!(
            "kube-apiserver {minor} serves consistent lists from its cache only with etcd {} or later: with {etcd} \
             each goes to etcd. Restart every kube-apiserver after the upgrade",
            CONSISTENT_READS[1]
        ));
    }
    let tested = KUBERNETES.iter().find(|line| line.kubernetes == minor)?.etcd;
    let away = tested.minor.minor.abs_diff(etcd.minor.minor);
    if away > 1 {
        return Some(format!(
            "kubeadm installs etcd {tested} with Kubernetes {minor}; {etcd} is {away} minors away"
        ));
    }
    (etcd.minor == tested.minor && etcd < tested)
        .then(|| format!("kubeadm installs etcd {tested} with Kubernetes {minor}; {etcd} is older"))
}

fn minor_of(kubernetes: &str) -> Option<Minor> {
    let mut parts = kubernetes.strip_prefix('v').unwrap_or(kubernetes).split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (major >= 1).then_some(Minor::new(major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1.34", "3.6.16", None)]
    #[case("v1.34.4", "3.5.35", None)]
    #[case("1.34", "3.7.3", None)]
    #[case("1.33", "3.6.16", None)]
    #[case("1.30", "3.5.24", None)]
    #[case("1.99", "3.7.3", None)]
    #[case("1.34", "3.5.12", Some("3.5.13 or later"))]
    #[case("1.99", "3.4.30", Some("3.5.13 or later"))]
    #[case("1.34", "3.4.45", Some("2 minors away"))]
    #[case("1.33", "3.7.3", Some("2 minors away"))]
    #[case("1.37", "3.5.35", Some("2 minors away"))]
    #[case("1.34", "3.6.5", Some("3.6.5 is older"))]
    #[case("1.30", "3.5.12", Some("3.5.12 is older"))]
    #[case("latest", "3.6.16", Some("no Kubernetes version"))]
    fn advises(#[case] kubernetes: &str, #[case] etcd: &str, #[case] says: Option<&str>) {
        let text = advice(kubernetes, etcd.parse().unwrap());
        match says {
            None => assert_eq!(text, None),
            Some(says) => assert!(text.as_ref().is_some_and(|text| text.contains(says)), "{text:?}"),
        }
    }

    #[rstest]
    #[case("3.4.30", false)]
    #[case("3.4.31", true)]
    #[case("3.5.0", false)]
    #[case("3.5.12", false)]
    #[case("3.5.13", true)]
    #[case("3.6.0", true)]
    fn consistent_reads_need_a_patch(#[case] etcd: &str, #[case] serves: bool) {
        assert_eq!(serves_consistent_reads(etcd.parse().unwrap()), serves);
    }
}
