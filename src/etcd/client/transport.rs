//! How members are dialled. The only place that decides on scheme and TLS, for gRPC and HTTP alike.

use super::http::{self, Fetched, HttpError};
use super::{Credentials, Endpoint};
use std::net::SocketAddr;
use std::time::Duration;

/// Where etcd serves clients, gRPC and `/version`. The metrics port has no `/version`.
const CLIENT_PORT: u16 = 2379;
/// Where etcd serves its peers.
const PEER_PORT: u16 = 2380;
/// Where etcd serves `/metrics` without asking for a client certificate.
const METRICS_PORT: u16 = 2381;
/// How long a connection may take to be made. Within a cluster's network it takes a few milliseconds; half of a
/// read's limit, so that a black hole is told from a member that is slow.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The member's URL and how to dial it. Over TLS the name to verify is `endpoint.server_name`.
fn dial(endpoint: &Endpoint, credentials: Option<&Credentials>) -> (String, etcd_client::ConnectOptions) {
    let scheme = if credentials.is_some() { "https" } else { "http" };
    // SocketAddr writes brackets around an IPv6 address.
    let url = format!("{scheme}://{}", SocketAddr::new(endpoint.ip, CLIENT_PORT));
    let options = etcd_client::ConnectOptions::new()
        .with_connect_timeout(CONNECT_LIMIT)
        // One limit for all calls of a channel, hence the longest. Each call has its own on top of it, as a
        // channel may wait for a connection outside of this limit: https://github.com/etcdv3/etcd-client/issues/39
        .with_timeout(super::MOVE_LEADER_LIMIT);
    let options = match credentials {
        Some(credentials) => options.with_tls(credentials.of_channel(&endpoint.server_name)),
        None => options,
    };
    (url, options)
}

/// A channel to the member. It connects on the first call, and so does no I/O here.
pub(super) async fn channel(
    endpoint: &Endpoint,
    credentials: Option<&Credentials>,
) -> Result<etcd_client::Client, etcd_client::Error> {
    let (url, options) = dial(endpoint, credentials);
    etcd_client::Client::connect([url], Some(options)).await
}

/// `GET /version` of the member.
pub(super) async fn version(
    endpoint: &Endpoint,
    credentials: Option<&Credentials>,
) -> Result<Fetched, HttpError> {
    let address = SocketAddr::new(endpoint.ip, CLIENT_PORT);
    // Boxed for its size: an observation makes many calls at once.
    Box::pin(http::get(address, &endpoint.server_name, "/version", credentials)).await
}

/// The certificate that the member shows to its peers, in DER. It turns the operator away, for that is none; but shows it first.
pub(super) async fn peer_certificate(
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<Option<Vec<u8>>, HttpError> {
    let address = SocketAddr::new(endpoint.ip, PEER_PORT);
    Box::pin(http::presented(address, &endpoint.server_name, credentials)).await
}

/// `GET /metrics` of the member: plain HTTP, whatever its clients talk.
pub(super) async fn metrics(endpoint: &Endpoint) -> Result<Fetched, HttpError> {
    let address = SocketAddr::new(endpoint.ip, METRICS_PORT);
    Box::pin(http::get(address, &endpoint.server_name, "/metrics", None)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("10.244.1.7", "http://10.244.1.7:2379")]
    #[case("fd00:10:244::7", "http://[fd00:10:244::7]:2379")]
    fn ipv6_addresses_are_bracketed(#[case] ip: &str, #[case] url: &str) {
        let (pod_uid, server_name) = Default::default();
        let endpoint = Endpoint { pod_uid, ip: ip.parse().unwrap(), server_name };
        assert_eq!(dial(&endpoint, None).0, url);
    }
}
