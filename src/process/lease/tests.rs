//! The judgement as a table; the compare-and-swap against a mock of the API server.

use super::*;
use kube::client::Body;
use rstest::rstest;
use serde_json::{Value, json};

pub(in crate::process) type Mock = tower_test::mock::Handle<http::Request<Body>, http::Response<Body>>;

const SECOND: Duration = Duration::from_secs(1);
const FALLBACK: Duration = Duration::from_secs(15);

fn spec(holder: Option<&str>, duration: Option<i32>) -> LeaseSpec {
    LeaseSpec {
        holder_identity: holder.map(str::to_owned),
        lease_duration_seconds: duration,
        ..LeaseSpec::default()
    }
}

#[rstest]
#[case::missing(None, 0, Verdict::Acquire)]
#[case::nobodys(Some(spec(None, Some(15))), 0, Verdict::Acquire)]
#[case::released_with_an_empty_holder(Some(spec(Some(""), Some(1))), 0, Verdict::Acquire)]
#[case::ours(Some(spec(Some("me"), Some(15))), 0, Verdict::Renew)]
#[case::ours_though_expired(Some(spec(Some("me"), Some(15))), 99, Verdict::Renew)]
#[case::anothers_just_seen(Some(spec(Some("it"), Some(15))), 0, Verdict::Wait(15 * SECOND))]
#[case::anothers_nearly_expired(Some(spec(Some("it"), Some(15))), 14, Verdict::Wait(SECOND))]
#[case::anothers_expired_to_the_second(Some(spec(Some("it"), Some(15))), 15, Verdict::Acquire)]
#[case::anothers_long_expired(Some(spec(Some("it"), Some(15))), 99, Verdict::Acquire)]
#[case::its_own_duration_counts(Some(spec(Some("it"), Some(60))), 20, Verdict::Wait(40 * SECOND))]
#[case::no_duration(Some(spec(Some("it"), None)), 5, Verdict::Wait(10 * SECOND))]
#[case::duration_zero(Some(spec(Some("it"), Some(0))), 5, Verdict::Wait(10 * SECOND))]
#[case::duration_negative(Some(spec(Some("it"), Some(-3))), 5, Verdict::Wait(10 * SECOND))]
fn a_lease_is_judged(#[case] lease: Option<LeaseSpec>, #[case] unchanged_for: u32, #[case] verdict: Verdict) {
    assert_eq!(evaluate(lease.as_ref(), "me", unchanged_for * SECOND, FALLBACK), verdict);
}

#[test]
fn the_renew_time_of_another_machine_does_not_count() {
    let long_ago = Some(MicroTime(jiff::Timestamp::UNIX_EPOCH));
    let lease = LeaseSpec { renew_time: long_ago, ..spec(Some("it"), Some(15)) };
    assert_eq!(evaluate(Some(&lease), "me", Duration::ZERO, FALLBACK), Verdict::Wait(FALLBACK));
}

#[test]
fn a_change_of_hands_counts_and_a_renewal_does_not() {
    let (first, later) = (MicroTime(jiff::Timestamp::UNIX_EPOCH), now());
    let new = held(None, "me", first.clone(), FALLBACK);
    assert_eq!((new.lease_transitions, new.lease_duration_seconds), (Some(0), Some(15)));
    let renewed = held(Some(&new), "me", later.clone(), FALLBACK);
    assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(0), &Some(first)));
    assert_eq!(renewed.renew_time, Some(later.clone()));
    let given_back = released(&renewed, later.clone());
    assert_eq!(given_back.holder_identity, None);
    let taken = held(Some(&given_back), "it", later.clone(), FALLBACK);
    assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(1), Some(later)));
}

#[test]
fn the_times_are_ordered_and_leave_room_for_a_second_try() {
    let t = Timing::DEFAULT;
    assert!(t.retry < t.renew_deadline && t.renew_deadline < t.duration);
    assert!(t.retry + 2 * t.one_try() < t.renew_deadline);
}

pub(in crate::process) fn candidate(retry_millis: u64) -> (Candidate, Mock) {
    let (service, handle) = tower_test::mock::pair();
    let timing = Timing {
        duration: Duration::from_millis(retry_millis * 15),
        renew_deadline: Duration::from_millis(retry_millis * 10),
        retry: Duration::from_millis(retry_millis),
    };
    (Candidate::new(Client::new(service, "ns"), "ns", "quorate", "me".into(), timing), handle)
}

pub(in crate::process) fn lease(version: &str, holder: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "quorate", "namespace": "ns", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
}

pub(in crate::process) fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

/// Expects one request and answers it; hands back what was asked.
pub(in crate::process) async fn answer(mock: &mut Mock, method: &str, code: u16, body: Value) -> Value {
    let next = timeout(5 * SECOND, mock.next_request()).await;
    let (request, send) = next.expect("a request in time").expect("a request");
    assert_eq!(request.method(), method);
    assert!(request.uri().path().starts_with("/apis/coordination.k8s.io/v1/namespaces/ns/leases"));
    let asked = request.into_body().collect_bytes().await.unwrap();
    let response =
        http::Response::builder().status(code).body(Body::from(serde_json::to_vec(&body).unwrap()));
    send.send_response(response.unwrap());
    serde_json::from_slice(&asked).unwrap_or_default()
}

#[tokio::test]
async fn a_missing_lease_is_created_and_then_renewed_without_reading() {
    let (mut candidate, mut mock) = candidate(1_000);
    let server = async {
        answer(&mut mock, "GET", 404, failure(404, "NotFound")).await;
        let created = answer(&mut mock, "POST", 201, lease("1", "me")).await;
        assert_eq!(created["spec"]["holderIdentity"], "me");
        let renewed = answer(&mut mock, "PUT", 200, lease("2", "me")).await;
        assert_eq!(renewed["metadata"]["resourceVersion"], "1");
    };
    let client = async {
        assert_eq!(candidate.attempt().await.unwrap(), Attempt::Held);
        assert_eq!(candidate.attempt().await.unwrap(), Attempt::Held);
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn of_two_that_try_the_slower_one_loses() {
    let (mut candidate, mut mock) = candidate(1_000);
    let server = async {
        answer(&mut mock, "GET", 200, lease("7", "")).await;
        let tried = answer(&mut mock, "PUT", 409, failure(409, "Conflict")).await;
        assert_eq!(tried["metadata"]["resourceVersion"], "7", "the write is bound to what was read");
        answer(&mut mock, "GET", 200, lease("8", "it")).await;
    };
    let client = async {
        assert_eq!(candidate.attempt().await.unwrap(), Attempt::Raced);
        let expected = Attempt::Waiting { holder: "it".into(), left: FALLBACK };
        assert_eq!(candidate.attempt().await.unwrap(), expected);
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_holder_whose_lease_was_taken_hears_it_at_once() {
    let (mut candidate, mut mock) = candidate(50);
    let server = async {
        answer(&mut mock, "GET", 200, lease("1", "")).await;
        answer(&mut mock, "PUT", 200, lease("2", "me")).await;
        answer(&mut mock, "PUT", 409, failure(409, "Conflict")).await;
        answer(&mut mock, "GET", 200, lease("3", "it")).await;
    };
    let client = async {
        candidate.acquire().await;
        assert_eq!(candidate.keep().await, "it holds it now");
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_holder_that_gets_no_answer_gives_up_before_the_others_take_over() {
    let (mut candidate, mut mock) = candidate(50);
    let server = async {
        answer(&mut mock, "GET", 200, lease("1", "")).await;
        answer(&mut mock, "PUT", 200, lease("2", "me")).await;
        let mut unanswered = Vec::new();
        while let Ok(Some(request)) = timeout(SECOND, mock.next_request()).await {
            unanswered.push(request);
        }
        assert!(unanswered.len() > 1, "it tries more than once");
    };
    let client = async {
        candidate.acquire().await;
        let start = candidate.renewed;
        let why = candidate.keep().await;
        assert!(why.contains("did not answer") || why.contains("no answer"), "{why}");
        assert!(
            start.elapsed() >= candidate.timing.renew_deadline && start.elapsed() < candidate.timing.duration
        );
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn a_released_lease_is_nobodys() {
    let (mut candidate, mut mock) = candidate(1_000);
    let server = async {
        answer(&mut mock, "GET", 200, lease("1", "")).await;
        answer(&mut mock, "PUT", 200, lease("2", "me")).await;
        let put = answer(&mut mock, "PUT", 200, lease("3", "")).await;
        assert_eq!(put["spec"].get("holderIdentity"), None);
        assert_eq!(put["metadata"]["resourceVersion"], "2");
    };
    let client = async {
        assert_eq!(candidate.attempt().await.unwrap(), Attempt::Held);
        candidate.release().await;
    };
    tokio::join!(server, client);
}

#[tokio::test]
async fn what_is_anothers_is_not_released() {
    let (candidate, mut mock) = candidate(1_000);
    let server = async {
        answer(&mut mock, "GET", 200, lease("9", "it")).await;
        assert!(mock.next_request().await.is_none(), "nothing is written");
    };
    tokio::join!(server, candidate.release());
}
