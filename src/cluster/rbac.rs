//! What the operator may do in Kubernetes, and why: the one list from which the chart's and the
//! manifests' roles are generated. Pure data.
//!
//! There is no wildcard, no `list` of Secrets, no `pods/exec`, and no `delete` where nothing is deleted.

use crate::api::GROUP;

/// Where a permission must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In each namespace that is watched: a Role for each, or one `ClusterRole` for all.
    Namespace,
    /// On the whole cluster, also where only some namespaces are watched: the kind has no namespace.
    Cluster,
}

/// One rule of a Role or `ClusterRole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// Resources and subresources, as RBAC writes them.
    pub resources: &'static [&'static str],
    /// Verbs, as RBAC writes them.
    pub verbs: &'static [&'static str],
    /// Where it must be given.
    pub scope: Scope,
    /// What the operator does with it.
    pub why: &'static str,
}

const fn rule(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Rule {
    Rule { group, resources, verbs, scope: Scope::Namespace, why }
}

/// What looking after clusters needs.
pub const CLUSTER_RULES: &[Rule] = &[
    rule(
        GROUP,
        &["etcdclusters"],
        &["get", "list", "watch", "patch"],
        "read what users say; patch sets and removes the finalizer of whenDeleted: Delete, nothing else",
    ),
    rule(
        GROUP,
        &["etcdclusters/status"],
        &["update"],
        "report; claim a step by compare-and-swap before a member is disturbed",
    ),
    rule(
        GROUP,
        &["etcdclusters/finalizers"],
        &["update"],
        "own the cluster's objects with blockOwnerDeletion where OwnerReferencesPermissionEnforcement is on",
    ),
    rule(
        "",
        &["pods"],
        &["get", "list", "watch", "create", "patch", "delete"],
        "each member is a Pod; patch moves its start-up guard on, and gives labels and annotations in place; delete clears away one that failed or tried an image",
    ),
    rule("", &["pods/eviction"], &["create"], "stop a member within the disruption budget, as a drain does"),
    rule("", &["pods/log"], &["get"], "show why a member did not start; read the version that an image says"),
    rule(
        "",
        &["persistentvolumeclaims"],
        &["get", "list", "watch", "create", "patch", "delete"],
        "each member's data; delete only as retentionPolicy says",
    ),
    rule(
        "",
        &["services"],
        &["get", "list", "watch", "create", "patch"],
        "addresses of members and for clients",
    ),
    rule(
        "policy",
        &["poddisruptionbudgets"],
        &["get", "list", "watch", "create", "patch"],
        "keep drains and the operator from taking a quorum's members at once",
    ),
    rule(
        "apps",
        &["controllerrevisions"],
        &["list", "create", "delete"],
        "remember what each member was rendered from, so that it can be put back",
    ),
    // RBAC knows names only, and those of clusters that are yet to be made are not known: what keeps the operator from
    // Secrets of others is that it may not list them.
    rule(
        "",
        &["secrets"],
        &["get", "create", "patch", "delete"],
        "certificates of clusters that talk TLS, each by its own name; patch makes one anew before its end; delete is for the \
         authority that goes with its cluster's volumes",
    ),
    rule("events.k8s.io", &["events"], &["create"], "say what was done and what is refused"),
    Rule {
        scope: Scope::Cluster,
        ..rule(
            "storage.k8s.io",
            &["storageclasses"],
            &["list"],
            "say so when no StorageClass is the default, instead of leaving volumes pending",
        )
    },
    Rule {
        scope: Scope::Cluster,
        ..rule(
            "",
            &["nodes"],
            &["get", "list"],
            "show the zone of each member's node in the status, begin nothing while one is cordoned or not ready, and know \
             when one is gone",
        )
    },
    Rule {
        scope: Scope::Cluster,
        ..rule(
            "",
            &["persistentvolumes"],
            &["get"],
            "know whether a member's volume can follow it to another node, or the member has to be replaced",
        )
    },
];

/// What leader election needs, in the operator's own namespace only.
pub const LEASE_RULES: &[Rule] = &[rule(
    "coordination.k8s.io",
    &["leases"],
    &["get", "create", "update"],
    "one replica acts, the others stand by",
)];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_is_plain_and_has_a_reason() {
        for rule in CLUSTER_RULES.iter().chain(LEASE_RULES) {
            assert!(!rule.why.is_empty() && !rule.resources.is_empty() && !rule.verbs.is_empty(), "{rule:?}");
            let words = rule.resources.iter().chain(rule.verbs).chain([&rule.group]);
            assert!(words.clone().all(|word| !word.contains('*')), "a wildcard in {rule:?}");
            let verbs: BTreeSet<_> = rule.verbs.iter().collect();
            assert_eq!(verbs.len(), rule.verbs.len(), "a verb twice in {rule:?}");
        }
    }

    #[test]
    fn a_resource_stands_once() {
        let all: Vec<_> =
            CLUSTER_RULES.iter().flat_map(|r| r.resources.iter().map(|res| (r.group, *res))).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn nothing_here_finds_secrets_or_runs_commands() {
        for rule in CLUSTER_RULES {
            for resource in rule.resources {
                assert!(!["pods/exec", "pods/attach", "pods/portforward"].contains(resource), "{rule:?}");
                let finds = rule.verbs.iter().any(|verb| ["list", "watch"].contains(verb));
                assert!(!(finds && *resource == "secrets"), "{rule:?}");
            }
        }
    }
}
