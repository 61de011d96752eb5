//! How a member is reached: whose a channel is, what a restart does to it, and addresses where nobody is.

use crate::harness::{Cluster, MOVE_LEADER_LIMIT, READ_LIMIT, SCOPE};
use quorate::etcd::{ClusterId, Endpoint, ErrorKind, Identity, MemberId};
use rstest::rstest;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[tokio::test]
async fn a_member_whose_container_restarts_is_reached_by_the_first_call_after_it() {
    let version = "3.6.16";
    let mut cluster = Cluster::of(1, version).await;
    let client = cluster.client(0);
    for patiently in [true, false] {
        cluster.kill(0);
        if !patiently {
            for _ in 0..20 {
                let began = Instant::now();
                assert_eq!(client.status().await.unwrap_err().kind(), ErrorKind::Unreachable);
                assert!(began.elapsed() < Duration::from_millis(500), "a closed port answers at once");
            }
            assert_eq!(client.versions().await.unwrap_err().kind(), ErrorKind::Unreachable);
        }
        cluster.start(0, version);
        let address = SocketAddr::new(cluster.endpoint(0).ip, 2379);
        cluster
            .eventually("its port is open", Duration::from_secs(10), async || port_is_open(address).await)
            .await;
        client.status().await.unwrap();
    }
}

#[tokio::test]
async fn a_channel_belongs_to_a_pod_at_its_address() {
    let cluster = Cluster::of(2, "3.6.16").await;
    let (first, second) = (cluster.endpoint(0), cluster.endpoint(1));
    let id = cluster.status(1).await.member_id;

    let moved = Endpoint { ip: second.ip, ..first.clone() };
    let client = cluster.channels.member(SCOPE, &moved);
    assert_eq!(client.status().await.unwrap().member_id, id, "the Pod's sandbox was made anew, elsewhere");

    cluster.channels.keep_only(SCOPE, &[]);
    client.status().await.expect("a client in use outlives its place in the pool");
    cluster.channels.member(SCOPE, &first).status().await.unwrap();
}

/// Where a connection is never made, as behind a network policy, and where one is made and nothing answers.
#[rstest]
#[case::no_connection(true, ErrorKind::Unreachable)]
#[case::no_answer(false, ErrorKind::TimedOut)]
#[tokio::test]
async fn a_black_hole_fails_within_the_limit(#[case] full: bool, #[case] kind: ErrorKind) {
    let cluster = Cluster::unstarted(1);
    let address = SocketAddr::new(cluster.endpoint(0).ip, 2379);
    let _hole = if full {
        BlackHole::without_connections(address).await
    } else {
        BlackHole::without_answers(address)
    };
    let client = cluster.client(0);
    let began = Instant::now();
    assert_eq!(client.status().await.unwrap_err().kind(), kind);
    assert!(began.elapsed() < READ_LIMIT, "{:?}", began.elapsed());

    // Calls side by side wait for each other's attempt to connect, so their kinds differ; their limit does not.
    let began = Instant::now();
    let (status, versions, read, list, probe) = tokio::join!(
        client.status(),
        client.versions(),
        client.read(),
        client.member_list(),
        client.commit_probe()
    );
    assert!(began.elapsed() < READ_LIMIT, "{:?}", began.elapsed());
    let errors = [
        status.unwrap_err(),
        versions.unwrap_err(),
        read.unwrap_err(),
        list.unwrap_err(),
        probe.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut), "{error}");
    }

    let began = Instant::now();
    let expected = Identity { cluster_id: ClusterId(1), member_id: MemberId(1) };
    assert_eq!(client.move_leader(expected, MemberId(2)).await.unwrap_err().kind(), kind);
    assert!(began.elapsed() < MOVE_LEADER_LIMIT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_black_hole_that_opens_is_reached_by_the_next_call() {
    let mut cluster = Cluster::unstarted(1);
    let address = SocketAddr::new(cluster.endpoint(0).ip, 2379);
    let client = cluster.client(0);
    let hole = BlackHole::without_connections(address).await;
    // The first call's attempt to connect fails, and the second's is given up while it is under way.
    let (first, second) = tokio::join!(client.status(), client.read());
    first.unwrap_err();
    second.unwrap_err();
    drop(hole);
    cluster.start(0, "3.6.16");
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.eventually("it serves", Duration::from_secs(10), async || port_is_open(address).await).await;
    client.status().await.unwrap();
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_at_once() {
    let cluster = Cluster::unstarted(1);
    let client = cluster.client(0);
    let began = Instant::now();
    // Spawned, as this also shows that a call may move between threads.
    let error = tokio::spawn(async move { client.member_list().await }).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert!(began.elapsed() < Duration::from_millis(500));
}

/// An address where something holds the port and etcd is not.
struct BlackHole {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// A connection is made and nothing ever answers.
    fn without_answers(address: SocketAddr) -> Self {
        Self { _listener: listener(address, 64), _queue: Vec::new() }
    }

    /// No connection is made: the kernel ignores who comes once the queue is full.
    async fn without_connections(address: SocketAddr) -> Self {
        let listener = listener(address, 0);
        let mut queue = Vec::new();
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queue.push(stream.unwrap());
        }
        Self { _listener: listener, _queue: queue }
    }
}

fn listener(address: SocketAddr, backlog: u32) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(backlog).unwrap()
}

async fn port_is_open(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}
