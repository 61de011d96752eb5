//! Everything in this repository that repeats the code is written by this test, and compared by it:
//!
//!     cargo test --test generated              compares, and says what differs
//!     UPDATE=1 cargo test --test generated     writes
//!
//! `make generate` and `make check` do the same and set `HELM`, without which the manifests that are made
//! from the chart are only compared in part.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests and tools are I/O")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod codes;
mod crd;
mod manifests;
mod rbac;
mod samples;
mod schema;
#[path = "../support/specs.rs"]
mod specs;
mod versions;

use std::path::Path;

#[test]
fn the_crd_is_what_the_types_say() {
    check("crds/quorate.dev_etcdclusters.yaml", &crd::plain());
}

#[test]
fn the_chart_s_crd_is_what_the_types_say() {
    check("charts/quorate/templates/crd.yaml", &crd::for_chart());
}

#[test]
fn the_chart_s_rules_are_what_the_code_lists() {
    check("charts/quorate/templates/_rules.tpl", &rbac::for_chart());
}

#[test]
fn the_page_of_codes_is_what_the_code_lists() {
    check("docs/refusals.md", &codes::page());
}

#[test]
fn the_page_of_versions_is_what_the_table_says() {
    check("docs/versions.md", &versions::page());
}

/// Compares a file of the repository with what it should be, or writes it where `UPDATE` is set.
fn check(path: &str, wanted: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if found == wanted {
        return;
    }
    let line = found.lines().zip(wanted.lines()).take_while(|(a, b)| a == b).count();
    panic!(
        "{path} is not what the code says, from line {} on:\n  found   {:?}\n  wanted  {:?}\n\
         Run `make generate` and commit the result; never edit this file.",
        line + 1,
        found.lines().nth(line).unwrap_or("(end of file)"),
        wanted.lines().nth(line).unwrap_or("(end of file)"),
    );
}
