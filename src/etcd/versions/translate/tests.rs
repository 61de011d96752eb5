//! Translations as a table: what is written, the release, what the release is given.

use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn v(text: &str) -> EtcdVersion {
    text.parse().unwrap()
}

/// `a=1 b=2` as flags; a value may hold `=`.
fn flags(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(flag, value)| (flag.to_owned(), value.to_owned())).collect()
}

#[rstest]
#[case::nothing("", "3.7.3", "")]
#[case::as_it_is("max-txn-ops=256 log-level=debug", "3.5.9", "max-txn-ops=256 log-level=debug")]
#[case::up("experimental-corrupt-check-time=4h", "3.7.3", "corrupt-check-time=4h")]
#[case::down("corrupt-check-time=4h", "3.5.35", "experimental-corrupt-check-time=4h")]
#[case::kept_old_in_3_6("experimental-corrupt-check-time=4h", "3.6.16", "experimental-corrupt-check-time=4h")]
#[case::kept_new_in_3_6("corrupt-check-time=4h", "3.6.16", "corrupt-check-time=4h")]
#[case::written_twice_alike(
    "experimental-warning-unary-request-duration=1s warning-unary-request-duration=1s",
    "3.6.16",
    "warning-unary-request-duration=1s"
)]
#[case::gate_up("experimental-initial-corrupt-check=true", "3.7.3", "feature-gates=InitialCorruptCheck=true")]
#[case::gate_kept_old_in_3_6(
    "experimental-initial-corrupt-check=1",
    "3.6.16",
    "experimental-initial-corrupt-check=1"
)]
#[case::gate_kept_new_in_3_6(
    "feature-gates=InitialCorruptCheck=true",
    "3.6.16",
    "feature-gates=InitialCorruptCheck=true"
)]
#[case::gate_down(
    "feature-gates=InitialCorruptCheck=true,StopGRPCServiceOnDefrag=false",
    "3.5.35",
    "experimental-initial-corrupt-check=true experimental-stop-grpc-service-on-defrag=false"
)]
#[case::gates_are_brought_together_in_order(
    "experimental-stop-grpc-service-on-defrag=t experimental-compact-hash-check-enabled=0 \
     feature-gates=PriorityRequest=true",
    "3.7.3",
    "feature-gates=CompactHashCheck=false,PriorityRequest=true,StopGRPCServiceOnDefrag=true"
)]
#[case::no_mixture_in_3_6(
    "experimental-enable-lease-checkpoint=true feature-gates=LeaseCheckpointPersist=true",
    "3.6.16",
    "feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true"
)]
#[case::written_twice_alike_on_3_5(
    "experimental-initial-corrupt-check=1 feature-gates=InitialCorruptCheck=true",
    "3.5.35",
    "experimental-initial-corrupt-check=true"
)]
#[case::lease_checkpoints_go_together(
    "experimental-enable-lease-checkpoint=true experimental-enable-lease-checkpoint-persist=true",
    "3.7.3",
    "feature-gates=LeaseCheckpoint=true,LeaseCheckpointPersist=true"
)]
#[case::all("feature-gates=AllAlpha=true", "3.7.3", "feature-gates=AllAlpha=true")]
#[case::the_default_of_3_5_is_none_of_3_6("v2-deprecation=not-yet", "3.6.16", "")]
#[case::not_yet_on_3_5("v2-deprecation=not-yet", "3.5.35", "v2-deprecation=not-yet")]
#[case::other_values_go_on("v2-deprecation=write-only", "3.7.3", "v2-deprecation=write-only")]
#[case::newer_than_the_table("brand-new=1", "3.6.99", "brand-new=1")]
#[case::without_effect("peer-election-timeout=1", "3.6.16", "peer-election-timeout=1")]
fn translates(#[case] written: &str, #[case] version: &str, #[case] given: &str) {
    assert_eq!(translate(&flags(written), v(version)), Ok(flags(given)));
}

#[rstest]
#[case::unknown("no-such-flag=1", "3.6.16", "no-such-flag is no flag of etcd 3.6.16")]
#[case::a_way_out("version=true", "3.6.16", "version is no flag")]
#[case::too_new_for_the_minor("log-format=json", "3.5.35", "it came with 3.6.0")]
#[case::too_new_for_the_patch("tls-min-version=TLS1.3", "3.5.7", "it came with 3.5.8")]
#[case::too_new_under_its_other_name("compaction-sleep-interval=10ms", "3.5.15", "it came with 3.5.16")]
#[case::new_in_3_6_under_both_names(
    "experimental-warning-unary-request-duration=1s",
    "3.5.35",
    "it came with 3.6.0"
)]
#[case::removed("proxy-failure-wait=1", "3.6.16", "3.6 removed it")]
#[case::removed_even_from_newer_patches("discovery=x", "3.7.99", "3.7 removed it")]
#[case::an_unknown_gate("feature-gates=Nope=true", "3.7.3", "Nope is no feature gate")]
#[case::an_unknown_gate_on_3_5("feature-gates=Nope=true", "3.5.35", "Nope is no feature gate")]
#[case::a_gate_of_3_7("feature-gates=FastLeaseKeepAlive=true", "3.6.16", "it came with 3.7")]
#[case::another_gate_of_3_7("feature-gates=PriorityRequest=false", "3.6.16", "it came with 3.7")]
#[case::a_gate_that_was_no_flag("feature-gates=SetMemberLocalAddr=true", "3.5.35", "it came with 3.6")]
#[case::a_gate_that_was_no_flag_yet(
    "feature-gates=StopGRPCServiceOnDefrag=true",
    "3.5.9",
    "it came with 3.5.14"
)]
#[case::no_value("feature-gates=InitialCorruptCheck", "3.7.3", "neither true nor false")]
#[case::no_switch("experimental-initial-corrupt-check=yes", "3.7.3", "neither true nor false")]
#[case::a_contradiction(
    "corrupt-check-time=1h experimental-corrupt-check-time=2h",
    "3.7.3",
    "given different values"
)]
#[case::a_contradiction_of_gates(
    "experimental-initial-corrupt-check=true feature-gates=InitialCorruptCheck=false",
    "3.6.16",
    "given different values"
)]
#[case::half_of_a_pair("feature-gates=LeaseCheckpointPersist=true", "3.7.3", "without LeaseCheckpoint")]
#[case::half_of_all("feature-gates=AllAlpha=true,LeaseCheckpoint=false", "3.6.16", "without LeaseCheckpoint")]
#[case::half_of_a_pair_in_3_5(
    "experimental-enable-lease-checkpoint-persist=true",
    "3.5.35",
    "without LeaseCheckpoint"
)]
fn refuses(#[case] written: &str, #[case] version: &str, #[case] says: &str) {
    let error = translate(&flags(written), v(version)).unwrap_err();
    assert!(error.to_string().contains(says), "{error}");
    assert!(!error.remedy().is_empty());
}

fn some_flags() -> impl Strategy<Value = BTreeMap<String, String>> {
    let switches = proptest::collection::btree_map(
        proptest::sample::select(vec![
            "experimental-initial-corrupt-check",
            "experimental-compact-hash-check-enabled",
            "experimental-stop-grpc-service-on-defrag",
            "experimental-txn-mode-write-with-shared-buffer",
        ]),
        any::<bool>(),
        0..4,
    );
    let times = proptest::collection::btree_map(
        proptest::sample::select(vec![
            "experimental-corrupt-check-time",
            "experimental-downgrade-check-time",
            "experimental-warning-apply-duration",
            "max-txn-ops",
        ]),
        1_u32..9,
        0..4,
    );
    (switches, times).prop_map(|(switches, times)| {
        let switches = switches.into_iter().map(|(flag, on)| (flag.to_owned(), on.to_string()));
        switches.chain(times.into_iter().map(|(flag, n)| (flag.to_owned(), n.to_string()))).collect()
    })
}

proptest! {
    #[test]
    fn up_and_down_again_says_the_same(written in some_flags()) {
        let up = translate(&written, v("3.7.3")).unwrap();
        prop_assert_eq!(translate(&up, v("3.5.35")), Ok(written.clone()));
        prop_assert_eq!(translate(&up, v("3.6.16")), Ok(up.clone()));
        prop_assert_eq!(translate(&written, v("3.6.16")), Ok(written));
    }

    #[test]
    fn what_is_given_is_known(written in some_flags(), at in 0_usize..3) {
        let version = v(["3.5.35", "3.6.16", "3.7.3"][at]);
        for flag in translate(&written, version).unwrap().keys() {
            prop_assert!(is_known(flag, version), "{} {}", flag, version);
        }
    }
}
