//! TLS with real etcd: the flags that the operator renders, who is let in, and certificates that are exchanged on disk.

use crate::harness::{Cluster, SCOPE};
use crate::https::get;
use quorate::api::EtcdClusterSpec;
use quorate::cluster::revision::render;
use quorate::cluster::spec;
use quorate::cluster::wire::Wire;
use quorate::etcd::Credentials;
use quorate::pki::{Certificate, Made, Names, Purpose, Request, issue, new_authority};
use rstest::rstest;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The authority of a cluster, and the folders in which members find what they show.
struct Authority {
    made: Made,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let (from, until) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2096-01-01T00:00:00Z".parse().unwrap());
        Self { made: new_authority("test", from, until).unwrap(), dir: TempDir::new().unwrap() }
    }

    fn issue(&self, purpose: Purpose, dns: &[&str], ips: &[IpAddr]) -> Made {
        let request = Request {
            common_name: "test".to_owned(),
            names: Names {
                dns: dns.iter().map(|name| (*name).to_owned()).collect(),
                ips: ips.iter().copied().collect(),
            },
            purpose,
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2096-01-01T00:00:00Z".parse().unwrap(),
        };
        issue(&request, &self.made).unwrap()
    }

    fn folder(&self, n: usize) -> PathBuf {
        self.dir.path().join(n.to_string())
    }

    /// Gives a member what it shows on both ports, and says what that is.
    fn give(&self, cluster: &Cluster, n: usize) -> [String; 2] {
        let (own, all) = (format!("etcd-{n}.etcd.default.svc"), "peers.etcd.default.svc");
        let peer = self.issue(Purpose::Peer, &[&own, all], &[cluster.ip(n)]);
        let server = self.issue(Purpose::Server, &[&own], &[cluster.ip(n)]);
        [("peer", peer), ("server", server)].map(|(name, made)| {
            let dir = self.folder(n).join(name);
            std::fs::create_dir_all(&dir).unwrap();
            write(&dir, "ca.crt", &self.made.certificate);
            write(&dir, "tls.key", &made.key);
            write(&dir, "tls.crt", &made.certificate);
            Certificate::all_in(made.certificate.as_bytes()).unwrap().remove(0).serial.to_string()
        })
    }
}

/// As the kubelet writes: never half.
fn write(dir: &Path, name: &str, text: &str) {
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, dir.join(name)).unwrap();
}

/// The flags of TLS that the operator renders for this version.
fn flags(version: &str) -> Vec<String> {
    let spec: EtcdClusterSpec =
        serde_saphyr::from_str(&format!("{{version: {version}, tls: {{mode: Enabled}}}}")).unwrap();
    let desired = spec::parse(&spec).unwrap();
    let args = |wire| {
        let revision = render("default", "etcd", &spec, &desired, desired.version, wire).unwrap();
        revision.args().map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = args(Wire::Plain);
    args(Wire::Tls).into_iter().filter(|arg| !plain.contains(arg) && !arg.contains("urls=")).collect()
}

async fn secured(version: &str) -> (Cluster, Authority) {
    let authority = Authority::new();
    let mut cluster = Cluster::unstarted(3);
    cluster.scheme = "https";
    for n in 0..3 {
        authority.give(&cluster, n);
        let folder = authority.folder(n).display().to_string();
        cluster
            .args_of
            .push(flags(version).iter().map(|flag| flag.replace("/etc/etcd/tls", &folder)).collect());
    }
    let client = authority.issue(Purpose::Client, &[], &[]);
    let shown = Credentials::new(&authority.made.certificate, &client.certificate, &client.key).unwrap();
    cluster.channels.show(SCOPE, Some(Arc::new(shown)));
    for n in 0..3 {
        cluster.start(n, version);
    }
    cluster.formed(version).await;
    (cluster, authority)
}

#[rstest]
#[tokio::test]
async fn members_let_in_who_shows_a_certificate_and_show_new_ones_without_a_restart(
    #[values("3.5.9", "3.5.35", "3.6.16", "3.7.3")] version: &str,
) {
    let (mut cluster, authority) = secured(version).await;
    let (ip, name, ca) = (cluster.ip(0), "etcd-0.etcd.default.svc", &authority.made.certificate);
    let client = authority.issue(Purpose::Client, &[], &[]);
    let stranger = Authority::new().issue(Purpose::Peer, &["peers.etcd.default.svc"], &[]);
    let shown = |made: &'_ Made| Some((made.certificate.clone(), made.key.clone()));
    let peer = authority.issue(Purpose::Peer, &["peers.etcd.default.svc"], &[]);
    for (who, shows, port, scheme, is_let_in) in [
        ("a peer", shown(&peer), 2380, "https", true),
        ("a client", shown(&client), 2379, "https", true),
        ("a client at the port for peers", shown(&client), 2380, "https", false),
        ("nobody", None, 2379, "https", false),
        ("nobody at the port for peers", None, 2380, "https", false),
        ("a stranger", shown(&stranger), 2379, "https", false),
        ("a stranger at the port for peers", shown(&stranger), 2380, "https", false),
        ("plaintext", None, 2379, "http", false),
        ("plaintext at the port for peers", None, 2380, "http", false),
    ] {
        let shows = shows.as_ref().map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let answer = get(scheme, (ip, port), name, ca, shows).await;
        assert_eq!(answer.is_ok(), is_let_in, "{who}: {answer:?}");
    }

    let pid = cluster.pid(0);
    let [peer, server] = authority.give(&cluster, 0);
    let serial = |der: Option<Vec<u8>>| Certificate::presented(&der.unwrap()).unwrap().serial.to_string();
    let member = cluster.client(0);
    assert_eq!(serial(member.versions_and_certificate().await.unwrap().1), server);
    assert_eq!(serial(member.peer_certificate(|_| false).await.unwrap()), peer);
    assert_eq!(cluster.pid(0), pid);
    // Others go on with it: one that comes back dials it anew, and is dialled by it.
    cluster.stop(1).await;
    cluster.start_guarded(1, version);
    let is_back = async || cluster.client(1).read().await.is_ok();
    cluster.eventually("the member is back", Duration::from_secs(15), is_back).await;
    assert_eq!(cluster.client(1).member_list().await.unwrap().len(), 3);
}
