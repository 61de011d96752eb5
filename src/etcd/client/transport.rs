//! How members are dialled. The only place that decides on scheme and TLS, for gRPC and HTTP alike.

use super::Endpoint;
use std::net::SocketAddr;
use std::time::Duration;

/// Where etcd serves clients, gRPC and `/version`. The metrics port has no `/version`.
const CLIENT_PORT: u16 = 2379;
/// Where etcd serves `/metrics` without asking for a client certificate.
const METRICS_PORT: u16 = 2381;
/// How long a connection may take to be made. Within a cluster's network it takes a few milliseconds; half of a
/// read's limit, so that a black hole is told from a member that is slow.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The member's URL and how to dial it. Over TLS the name to verify will be `endpoint.server_name`.
fn dial(endpoint: &Endpoint) -> (String, etcd_client::ConnectOptions) {
    // SocketAddr writes brackets around an IPv6 address.
    let url = format!("http://{}", SocketAddr::new(endpoint.ip, CLIENT_PORT));
    let options = etcd_client::ConnectOptions::new()
        .with_connect_timeout(CONNECT_LIMIT)
        // One limit for all calls of a channel, hence the longest. Each call has its own on top of it, as a
        // channel may wait for a connection outside of this limit: https://github.com/etcdv3/etcd-client/issues/39
        .with_timeout(super::MOVE_LEADER_LIMIT);
    (url, options)
}

/// A channel to the member. It connects on the first call, and so does no I/O here.
pub(super) async fn channel(endpoint: &Endpoint) -> Result<etcd_client::Client, etcd_client::Error> {
    let (url, options) = dial(endpoint);
    etcd_client::Client::connect([url], Some(options)).await
}

/// `GET /version` of the member.
pub(super) fn version_request(http: &reqwest::Client, endpoint: &Endpoint) -> reqwest::RequestBuilder {
    let (url, _) = dial(endpoint);
    http.get(format!("{url}/version")).header(reqwest::header::HOST, &endpoint.server_name)
}

/// `GET /metrics` of the member.
pub(super) fn metrics_request(http: &reqwest::Client, endpoint: &Endpoint) -> reqwest::RequestBuilder {
    http.get(format!("http://{}/metrics", SocketAddr::new(endpoint.ip, METRICS_PORT)))
}

/// The HTTP client for all members. It keeps no connection: IPs are re-used, and a call says whether the
/// member can be reached now.
pub(super) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        // A proxy from the environment is not for Pods.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_LIMIT)
        .timeout(super::READ_LIMIT)
        // No root of the system speaks for a member, and loading them costs memory.
        .tls_certs_only([])
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("10.244.1.7", "http://10.244.1.7:2379")]
    #[case("fd00:10:244::7", "http://[fd00:10:244::7]:2379")]
    fn ipv6_addresses_are_bracketed(#[case] ip: &str, #[case] url: &str) {
        let endpoint =
            Endpoint { pod_uid: String::new(), ip: ip.parse().unwrap(), server_name: String::new() };
        assert_eq!(dial(&endpoint).0, url);
    }
}
