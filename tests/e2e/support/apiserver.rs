//! An API server of its own, on loopback, with nothing behind it: for what the lab's cannot show because
//! it must not lose its kinds.

use super::{processes, until};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const STARTED_WITHIN: Duration = Duration::from_mins(1);

/// A kube-apiserver and its etcd; both end on drop, by their own process ids.
pub struct ApiServer {
    pub kubeconfig: PathBuf,
    pub client: Client,
    children: Vec<Child>,
    directory: PathBuf,
}

impl ApiServer {
    pub async fn start(name: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("apiserver-{name}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let [secure, client, peer] = free_ports();
        let at = |file: &str| directory.join(file).display().to_string();
        let etcd = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(at("tokens.csv"), "test,admin,1,system:masters\n").unwrap();
        std::fs::write(&kubeconfig, kubeconfig_for(secure)).unwrap();
        run("openssl", &["genrsa", "-out", &at("accounts.key"), "2048"]);

        let etcd_binary = processes::etcd("3.5.35");
        let children = vec![
            spawn(
                &etcd_binary,
                &[
                    format!("--data-dir={}", at("etcd")),
                    format!("--listen-client-urls={etcd}"),
                    format!("--advertise-client-urls={etcd}"),
                    format!("--listen-peer-urls={peers}"),
                    format!("--initial-advertise-peer-urls={peers}"),
                    format!("--initial-cluster=default={peers}"),
                ],
                &directory.join("etcd.log"),
            ),
            spawn(
                "kube-apiserver",
                &[
                    format!("--etcd-servers={etcd}"),
                    "--bind-address=127.0.0.1".to_owned(),
                    "--advertise-address=127.0.0.1".to_owned(),
                    "--endpoint-reconciler-type=none".to_owned(),
                    format!("--secure-port={secure}"),
                    format!("--cert-dir={}", at("certificates")),
                    format!("--token-auth-file={}", at("tokens.csv")),
                    "--authorization-mode=AlwaysAllow".to_owned(),
                    "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                    format!("--service-account-key-file={}", at("accounts.key")),
                    format!("--service-account-signing-key-file={}", at("accounts.key")),
                    // No controller makes service accounts here.
                    "--disable-admission-plugins=ServiceAccount".to_owned(),
                ],
                &directory.join("kube-apiserver.log"),
            ),
        ];
        let kubeconfig_read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig_read, &options).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let server = Self { kubeconfig, client, children, directory };
        until("the API server is ready", STARTED_WITHIN, async || {
            let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
            server.client.request_text(ready).await.ok()
        })
        .await;
        server
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn kubeconfig_for(port: u16) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{ "name": "test", "user": { "token": "test" } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    })
    .to_string()
}

/// Ports that are free now; all held until all are known.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn spawn(program: impl AsRef<OsStr>, args: &[String], log: &Path) -> Child {
    processes::command(program, log).args(args).spawn().unwrap()
}
