//! Names that the operator keeps for itself where users may add names of their own: each is a rule of
//! the schema and, for objects that came past the schema, a refusal, in the same words.

use kube::core::Rule;

/// What may not be set in one field.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    /// The field.
    pub field: &'static str,
    /// How the names begin.
    pub prefixes: &'static [&'static str],
    /// Whether the field is a list of things with a `name`, else a map by name.
    list: bool,
    /// Why not.
    why: &'static str,
    /// What to do instead.
    pub remedy: &'static str,
}

impl Reserved {
    /// The first of these names that may not be set.
    pub fn first_of<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
        let is_reserved = |name: &&str| self.prefixes.iter().any(|prefix| name.starts_with(prefix));
        names.into_iter().map(String::as_str).find(is_reserved)
    }

    /// One sentence for people.
    pub fn message(&self) -> String {
        format!("{} may not set {} names: {}", self.field, self.prefixes.join(" or "), self.why)
    }

    /// The rule of the schema.
    pub(super) fn rule(&self) -> Rule {
        let name = if self.list { "n.name" } else { "n" };
        let none: Vec<String> =
            self.prefixes.iter().map(|prefix| format!("!{name}.startsWith('{prefix}')")).collect();
        let message = format!("{}; {}", self.message(), self.remedy);
        Rule::new(format!("self.all(n, {})", none.join(" && "))).message(message.as_str())
    }
}

const LABELS: Reserved = Reserved {
    field: "",
    prefixes: &["quorate.dev/", "app.kubernetes.io/"],
    list: false,
    why: "the operator, its Services and its disruption budget select by them",
    remedy: "use a prefix of your own",
};

const ANNOTATIONS: Reserved =
    Reserved { prefixes: &["quorate.dev/"], why: "the operator keeps its own there", ..LABELS };

/// Labels of the members' Pods.
pub const POD_LABELS: Reserved = Reserved { field: "spec.pod.labels", ..LABELS };
/// Annotations of the members' Pods.
pub const POD_ANNOTATIONS: Reserved = Reserved { field: "spec.pod.annotations", ..ANNOTATIONS };
/// Environment of the etcd container.
pub const POD_ENV: Reserved = Reserved {
    field: "spec.pod.env",
    prefixes: &["ETCD_", "QUORATE_"],
    list: true,
    why: "etcd reads ETCD_ variables as flags and refuses one that stands in both places, and by QUORATE_ ones \
          the operator tells a member who it is",
    remedy: "use spec.etcd for settings of etcd, another name for all else",
};
/// Labels of the Service for clients.
pub const CLIENT_SERVICE_LABELS: Reserved = Reserved { field: "spec.services.client.labels", ..LABELS };
/// Annotations of the Service for clients.
pub const CLIENT_SERVICE_ANNOTATIONS: Reserved =
    Reserved { field: "spec.services.client.annotations", ..ANNOTATIONS };
