//! The lists of flags, held against the real binaries: what they say of themselves, what they take, and
//! that translated flags are taken.

use crate::harness::reported;
use crate::processes::etcd;
use quorate::etcd::versions::{FEATURE_GATES, GATES, GRADUATED, KNOWN_FLAGS, is_known, translate};
use rstest::rstest;
use std::collections::BTreeMap;
use std::process::Command;

/// 3.7 prints them in its help, and does not take them.
const ONLY_IN_THE_HELP: [&str; 2] = ["discovery", "discovery-proxy"];

fn help(version: &str) -> String {
    let output = Command::new(etcd(version)).arg("--help").output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// What etcd says of these flags; `--version` keeps it from starting.
fn answer(version: &str, flags: &[String]) -> String {
    let output = Command::new(etcd(version)).args(flags).arg("--version").output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
fn every_flag_of_the_help_is_in_the_list(#[case] version: &str) {
    let text = help(version);
    let names = text.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix("--")?.split([' ', '=', ')']).next()?;
        line.starts_with(' ').then_some(name)
    });
    let mut seen = 0;
    for name in names.filter(|name| !["config-file", "version"].contains(name)) {
        seen += 1;
        let only_in_the_help = version.starts_with("3.7.") && ONLY_IN_THE_HELP.contains(&name);
        assert!(is_known(name, reported(version)) != only_in_the_help, "{name}");
    }
    assert!(seen > 90, "{seen}");
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
fn the_binary_takes_what_is_in_the_list_and_nothing_else(#[case] version: &str) {
    for flag in KNOWN_FLAGS.iter().flat_map(|group| group.names) {
        let answer = answer(version, &[format!("--{flag}=x")]);
        let taken = !answer.contains("flag provided but not defined");
        assert_eq!(taken, is_known(flag, reported(version)), "{flag}: {answer}");
    }
}

#[rstest]
#[case("3.6.16")]
#[case("3.7.3")]
fn the_binary_takes_the_gates_of_the_list_and_no_others(#[case] version: &str) {
    for gate in GATES {
        let answer = answer(version, &[format!("--{FEATURE_GATES}={}=true", gate.name)]);
        let taken = !answer.contains("unrecognized feature gate");
        assert_eq!(taken, gate.is_known_to(reported(version)), "{}: {answer}", gate.name);
    }
    let text = help(version);
    let listed = text.lines().filter(|line| line.contains("=true|false ("));
    assert_eq!(listed.count(), GATES.iter().filter(|gate| gate.is_known_to(reported(version))).count());
}

/// Everything that has two spellings, in both: a cluster that goes 3.5 → 3.7 and back.
#[rstest]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
fn the_binary_takes_translated_flags(#[case] version: &str) {
    let value = |flag: &str| match flag {
        flag if flag.contains("time") || flag.contains("interval") || flag.contains("duration") => "1m",
        flag if flag.contains("enable") || flag.contains("mlock") || flag.contains("skip") => "true",
        _ => "10",
    };
    // Not known to 3.5 under either name.
    let graduated = GRADUATED.iter().filter(|flag| **flag != "warning-unary-request-duration");
    let new: BTreeMap<String, String> =
        graduated.map(|flag| ((*flag).to_owned(), value(flag).to_owned())).collect();
    let old: BTreeMap<String, String> =
        new.iter().map(|(flag, value)| (format!("experimental-{flag}"), value.clone())).collect();
    let gates: Vec<_> = GATES.iter().filter(|gate| gate.flag.is_some()).collect();
    let as_gates: Vec<String> = gates.iter().map(|gate| format!("{}=true", gate.name)).collect();
    let as_flags = gates.iter().map(|gate| (gate.flag.unwrap().to_owned(), "true".to_owned()));
    let mut new = new;
    new.insert(FEATURE_GATES.to_owned(), as_gates.join(","));
    let old = old.into_iter().chain(as_flags).collect();
    for written in [new, old] {
        let given = translate(&written, reported(version)).unwrap();
        let flags: Vec<String> = given.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        let answer = answer(version, &flags);
        assert!(answer.starts_with(&format!("etcd Version: {version}")), "{flags:?}: {answer}");
    }
}
