//! docs/refusals.md, from the table of codes.

use quorate::api::{Code, Severity};
use std::fmt::Write as _;

const HEAD: &str = "\
<!-- Generated from src/api/codes.rs: change it there, then run `make generate`. -->

# Codes

One closed list of words. The same word is the reason of a condition, the reason of an Event, a field of a
log line and the label of a metric. The message beside it carries the evidence of the case at hand and its
remedy; this page says what the word means in general.

    kubectl describe etcd NAME                                      # conditions, refusals, Events
    kubectl get etcd NAME -o jsonpath='{.status.refusals}'          # code, message, remedy
";

const PARTS: [(Severity, &str, &str); 4] = [
    (
        Severity::Refusal,
        "Refusals",
        "The operator will not do what the spec asks for, and touches no further member for it. A person must act: \
         `Stalled` is True at once.",
    ),
    (
        Severity::Wait,
        "Waits",
        "Expected to pass by itself: `Reconciling` is True. Once the deadline of the step has passed, `Stalled` \
         takes its place, with the same code.",
    ),
    (
        Severity::Warning,
        "Warnings",
        "Nothing is held up by them, and somebody should know: they stand in `status.warnings`.",
    ),
    (Severity::News, "News", "Something was done, or is true. Nobody needs to act."),
];

pub fn page() -> String {
    let mut text = String::from(HEAD);
    for (severity, title, says) in PARTS {
        write!(text, "\n## {title}\n\n{says}\n").unwrap();
        for code in Code::ALL.iter().filter(|code| code.severity() == severity) {
            write!(text, "\n### {code}\n\n{}\n", code.meaning()).unwrap();
            if severity != Severity::News || code.remedy() != "Nothing to do." {
                write!(text, "\n**What to do:** {}\n", code.remedy()).unwrap();
            }
        }
    }
    text
}
