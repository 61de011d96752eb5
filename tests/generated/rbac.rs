//! The rules of the roles, from the tables next to the code that needs them.

use quorate::cluster::rbac::{CLUSTER_RULES, LEASE_RULES, Rule, Scope};
use std::fmt::Write as _;

/// Named templates with the rules; the chart's roles include them.
pub fn for_chart() -> String {
    let mut text = String::from(
        "{{- /* Generated from src/cluster/rbac.rs: change it there, then run `make generate`. */ -}}\n",
    );
    let blocks: [(&str, Vec<&Rule>); 3] = [
        ("namespaced", of(Scope::Namespace)),
        ("clusterWide", of(Scope::Cluster)),
        ("lease", LEASE_RULES.iter().collect()),
    ];
    for (name, rules) in blocks {
        write!(text, "\n{{{{- define \"quorate.rules.{name}\" -}}}}\n").unwrap();
        for rule in rules {
            write_rule(&mut text, rule);
        }
        text.push_str("{{- end }}\n");
    }
    text
}

pub fn of(scope: Scope) -> Vec<&'static Rule> {
    CLUSTER_RULES.iter().filter(|rule| rule.scope == scope).collect()
}

fn write_rule(text: &mut String, rule: &Rule) {
    let list = |words: &[&str]| format!("[{}]", words.join(", "));
    let group = if rule.group.is_empty() { "\"\"" } else { rule.group };
    write!(
        text,
        "# {}\n- apiGroups: [{group}]\n  resources: {}\n  verbs: {}\n",
        rule.why,
        list(rule.resources),
        list(rule.verbs),
    )
    .unwrap();
}
