//! docs/versions.md, from the table of versions.

use quorate::etcd::versions::{
    ASKS_FOR_CONSISTENT_READS, BUGS, CONSISTENT_READS, CONSISTENT_READS_SOURCE, FORCES_CLEANLY_FROM, GATES,
    GRADUATED, HOPS, KNOWN_FLAGS, KUBERNETES, MINORS, OWNED_FLAGS, Start, is_known, is_supported,
};
use quorate::etcd::{EtcdVersion, Minor};
use std::fmt::Write as _;

const HEAD: &str = "\
<!-- Generated from src/etcd/versions: change it there, then run `make generate`. -->

# Versions

What the operator knows of etcd's versions: one table, a source behind each line. The planner asks it before
anything is touched. etcd itself does not refuse a skipped minor, so this table is the only guard.

- [Hops](#hops) · [Releases](#releases) · [Flags](#flags) · [Kubernetes](#kubernetes)
";

pub fn page() -> String {
    let mut text = String::from(HEAD);
    hops(&mut text);
    releases(&mut text);
    recovery(&mut text);
    flags(&mut text);
    kubernetes(&mut text);
    text
}

fn link(source: &str) -> String {
    let name = source.trim_end_matches('/').rsplit('/').next().unwrap();
    let name = name.parse::<u64>().map_or_else(|_| name.to_owned(), |number| format!("#{number}"));
    format!("[{name}]({source})")
}

fn hops(text: &mut String) {
    text.push_str(
        "\n## Hops\n\nWithin a minor every patch may follow every other, up or down. Between minors:\n\n\
         | from | to | begins from | why | besides | source |\n|---|---|---|---|---|---|\n",
    );
    for hop in HOPS {
        let start = match hop.start {
            Start::Floor(_) if !hop.is_begun() => "refused: no cluster begins there".to_owned(),
            Start::Floor(0) => "any patch".to_owned(),
            Start::Floor(patch) => hop.from.patch(patch).to_string(),
            Start::Never => "never".to_owned(),
        };
        let not_run = [hop.from, hop.to].into_iter().find(|minor| !is_supported(*minor));
        let why = match (hop.start, not_run) {
            (Start::Floor(_), Some(minor)) => format!("Quorate runs no {minor}; for etcd itself {}", hop.why),
            _ => hop.why.to_owned(),
        };
        let (from, to, note) = (hop.from, hop.to, hop.note);
        writeln!(text, "| {from} | {to} | {start} | {why} | {note} | {} |", link(hop.source)).unwrap();
    }
    text.push_str(
        "\nA downgrade ends on no patch from which the way up again may not be begun; to an older one leads a further hop\n\
         within the minor.\n",
    );
}

fn releases(text: &mut String) {
    text.push_str(
        "\n## Releases\n\n\
         The newest patches known. Newer ones are fine; `--releases FILE` (chart: `releases`) lets hops lead through them,\n\
         and takes verdicts of your own: to refuse a release, or only to warn of it, whatever is said here.\n\n",
    );
    text.push_str("| minor | newest | source |\n|---|---|---|\n");
    for line in MINORS {
        let newest = line.minor.patch(line.newest_patch);
        writeln!(text, "| {} | {newest} | {} |", line.minor, link(line.source)).unwrap();
    }
    text.push_str(
        "\nRefused as a target. A cluster that runs one already goes on:\n\n\
         | releases | why | source |\n|---|---|---|\n",
    );
    for bug in BUGS {
        for fix in bug.fixed.iter().filter(|fix| bug.refused == Some(fix.minor)) {
            let (first, last) = (fix.minor.patch(bug.since), fix.minor.patch(fix.patch - 1));
            writeln!(text, "| {first} to {last} | {} | {} |", bug.what, link(bug.source)).unwrap();
        }
    }
    text.push_str(
        "\nKnown bugs, named in `status.warnings` where the spec asks for a release that has them:\n\n\
         | releases | what happens | source |\n|---|---|---|\n",
    );
    for bug in BUGS {
        let ranges: Vec<String> = bug
            .fixed
            .iter()
            .map(|fix| match bug.since {
                0 => format!("before {fix}"),
                since if since + 1 == fix.patch => fix.minor.patch(since).to_string(),
                since => format!("{} until {fix}", fix.minor.patch(since)),
            })
            .collect();
        writeln!(text, "| {} | {} | {} |", ranges.join(", "), bug.what, link(bug.source)).unwrap();
    }
}

fn recovery(text: &mut String) {
    let from: Vec<String> = FORCES_CLEANLY_FROM.iter().map(ToString::to_string).collect();
    writeln!(
        text,
        "\n## Recovery\n\n\
         `--force-new-cluster`, which makes a cluster anew from one member, is run with releases that leave nothing of the\n\
         removed members behind: from {} on. Sources: {}, {}.",
        from.join(", "),
        link("https://github.com/etcd-io/etcd/issues/20896"),
        link("https://github.com/etcd-io/etcd/pull/20339"),
    )
    .unwrap();
}

fn flags(text: &mut String) {
    text.push_str(
        "\n## Flags\n\n\
         A binary that meets a flag it does not know exits at once, so `spec.etcd.extraArgs` and\n\
         `spec.etcd.featureGates` are rendered for the release that a member is about to run, up and down.\n\
         Write either spelling. What a release takes as it is written stays so.\n\n\
         Flags that lost `experimental-` with 3.6: 3.5 takes the old name, 3.6 both, 3.7 the new one.\n\n",
    );
    for flag in GRADUATED {
        let first = |name: &str| {
            KNOWN_FLAGS.iter().find(|group| group.names.contains(&name)).map(|group| group.since)
        };
        let old = format!("experimental-{flag}");
        let since = first(&old).filter(|since| *since > EtcdVersion::new(3, 5, 0));
        let since = since.map(|since| format!(" (since {since})")).unwrap_or_default();
        writeln!(text, "- `{old}`{since} → `{flag}`").unwrap();
    }
    text.push_str("\nFeature gates, and the flags that they were before 3.6:\n\n");
    text.push_str("| gate | since | flag before | source |\n|---|---|---|---|\n");
    for gate in GATES {
        let flag = gate.flag.map(|flag| format!("`{flag}`")).unwrap_or_default();
        writeln!(text, "| `{}` | {} | {flag} | {} |", gate.name, gate.since, link(gate.source)).unwrap();
    }
    text.push_str(
        "\n`v2-deprecation=not-yet` is the default of 3.5 and no value of 3.6: it is left out from there on.\n",
    );
    for line in MINORS {
        changes(text, line.minor, line.newest_patch);
    }
    text.push_str(
        "\nFlags that every release from 3.5 to 3.7 takes and that are free to set, since the release in parentheses:\n\n",
    );
    let mut common: Vec<String> = KNOWN_FLAGS
        .iter()
        .filter(|group| group.gone.is_none() && group.since.minor == Minor::new(3, 5))
        .flat_map(|group| group.names.iter().map(move |name| (*name, group.since)))
        .filter(|(name, _)| !OWNED_FLAGS.iter().any(|(owned, _)| owned == name))
        .map(|(name, since)| match since.patch {
            0 => format!("`{name}`"),
            _ => format!("`{name}` ({since})"),
        })
        .collect();
    common.sort();
    writeln!(text, "{}.", common.join(", ")).unwrap();
    text.push_str("\nFlags that belong to the operator are refused:\n\n| flag | why |\n|---|---|\n");
    for (flag, why) in OWNED_FLAGS {
        writeln!(text, "| `{flag}` | {why} |").unwrap();
    }
}

/// What a minor brought and took, but for what has another spelling.
fn changes(text: &mut String, minor: Minor, newest_patch: u64) {
    let at = minor.patch(newest_patch);
    let of = |belongs: &dyn Fn(&quorate::etcd::versions::FlagGroup) -> bool| {
        let names = KNOWN_FLAGS.iter().filter(|group| belongs(group)).flat_map(|group| group.names);
        let listed: Vec<String> = names
            .filter(|name| !is_known(&format!("experimental-{name}"), EtcdVersion::new(3, 6, 0)))
            .filter(|name| !name.starts_with("experimental-") || is_known(name, EtcdVersion::new(3, 5, 99)))
            .filter(|name| {
                let bare = name.strip_prefix("experimental-").unwrap_or("");
                !GRADUATED.contains(&bare) && !GATES.iter().any(|gate| gate.flag == Some(name))
            })
            .map(|name| format!("`{name}`"))
            .collect();
        listed.join(", ")
    };
    let new = of(&|group| group.since.minor == minor && group.since.minor > Minor::new(3, 5));
    let gone = of(&|group| group.gone == Some(minor) && !group.is_known_to(at));
    if !new.is_empty() {
        write!(text, "\nNew in {minor}: {new}.\n").unwrap();
    }
    if !gone.is_empty() {
        write!(text, "\nRemoved in {minor}, and refused: {gone}.\n").unwrap();
    }
}

fn kubernetes(text: &mut String) {
    let [of_3_4, later] = CONSISTENT_READS;
    write!(
        text,
        "\n## Kubernetes\n\n\
         Set `spec.kubernetes.version` to the version of the control plane that relies on this etcd; it gets a warning\n\
         where the two do not fit, and nothing is refused. What kubeadm installs with its latest patches:\n\n\
         | Kubernetes | etcd | source |\n|---|---|---|\n"
    )
    .unwrap();
    for line in KUBERNETES {
        writeln!(text, "| {} | {} | {} |", line.kubernetes, line.etcd, link(line.source)).unwrap();
    }
    write!(
        text,
        "\nFrom {ASKS_FOR_CONSISTENT_READS} on kube-apiserver serves consistent lists from its cache, if every etcd member is {later} or later (of\n\
         3.4: {of_3_4} or later). It asks each member once: restart every kube-apiserver after an upgrade from an older one.\n\
         Source: {}.\n",
        link(CONSISTENT_READS_SOURCE)
    )
    .unwrap();
}
