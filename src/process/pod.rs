//! What the process knows about the Pod that it runs in, if it does.

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};

const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Who this process is in a Lease, from `POD_NAME` (downward API) or the host's name.
pub fn identity() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let chance = RandomState::new().hash_one(std::process::id());
    identity_from(env::var("POD_NAME").ok().as_deref(), host.trim(), chance)
}

/// A Pod's name is unique and survives a crash of its container, whose successor so takes over at once.
/// Outside a Pod nothing is unique but chance.
fn identity_from(pod: Option<&str>, host: &str, chance: u64) -> String {
    match pod {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => format!("{host}_{chance:016x}"),
    }
}

/// The namespace for what belongs to the operator itself: `asked`, else `POD_NAMESPACE`, else the service
/// account's, else `default`.
pub fn namespace(asked: Option<&str>) -> String {
    let of_pod = env::var("POD_NAMESPACE").ok();
    let of_account = fs::read_to_string(NAMESPACE_FILE).ok();
    first_named([asked, of_pod.as_deref(), of_account.as_deref()]).unwrap_or("default").to_owned()
}

/// The domain of the Kubernetes cluster: `asked`, else that of the Pod's `resolv.conf`, else `cluster.local`.
pub fn cluster_domain(asked: Option<&str>) -> String {
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let of_pod = domain_in(&resolver);
    first_named([asked, of_pod]).unwrap_or("cluster.local").trim_matches('.').to_owned()
}

/// The kubelet writes `search <namespace>.svc.<domain> svc.<domain> <domain>`.
fn domain_in(resolver: &str) -> Option<&str> {
    let mut searched =
        resolver.lines().filter_map(|line| line.strip_prefix("search ")).flat_map(str::split_whitespace);
    searched.find_map(|domain| domain.strip_prefix("svc."))
}

fn first_named<const N: usize>(candidates: [Option<&str>; N]) -> Option<&str> {
    candidates.into_iter().flatten().map(str::trim).find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_goes_by_its_name_and_others_by_chance() {
        assert_eq!(identity_from(Some("quorate-abc"), "node", 7), "quorate-abc");
        assert_eq!(identity_from(None, "laptop", 7), "laptop_0000000000000007");
        assert_ne!(identity_from(Some(""), "laptop", 7), identity_from(None, "laptop", 8));
    }

    #[test]
    fn the_clusters_domain_stands_in_resolv_conf() {
        let of_pod = "search prod.svc.k8s.example svc.k8s.example k8s.example\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(domain_in(of_pod), Some("k8s.example"));
        assert_eq!(domain_in("search example.com\nnameserver 192.0.2.1\n"), None);
        assert_eq!(cluster_domain(Some("k8s.example.")), "k8s.example");
    }

    #[test]
    fn the_first_namespace_that_is_one_counts() {
        assert_eq!(first_named([Some("asked"), Some("pod")]), Some("asked"));
        assert_eq!(first_named([Some(""), None, Some("account\n")]), Some("account"));
        assert_eq!(first_named([None, Some(" ")]), None);
    }
}
