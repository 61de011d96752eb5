//! The operator as a process of this machine: started, its memory, and what it writes to the API server.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// Ends with this value.
pub struct Operator {
    process: Child,
}

/// What the process holds of the machine's memory, in bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    /// All that is resident, the binary's own pages included.
    pub resident: u64,
    /// What only this process can have: heap and stacks.
    pub anonymous: u64,
    /// The highest that `resident` ever was.
    pub peak: u64,
}

impl Operator {
    pub async fn start(binary: &Path, log: &Path, namespace: &str) -> anyhow::Result<Self> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(binary)
            .arg("--leader-elect=false")
            .arg(format!("--watch-namespaces={namespace}"))
            .arg(format!("--listen={listen}"))
            .arg("--log-format=json")
            .stderr(File::create(log).with_context(|| format!("cannot write {}", log.display()))?)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let operator = Self { process };
        let until = Instant::now() + STARTS_WITHIN;
        loop {
            if is_ready(listen).await.unwrap_or(false) {
                return Ok(operator);
            }
            if Instant::now() > until {
                bail!("the operator is not ready; {} says why", log.display());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).with_context(|| format!("the operator has no {name}: did it end?"))
        };
        Ok(Memory { resident: field("VmRSS")?, anonymous: field("RssAnon")?, peak: field("VmHWM")? })
    }
}

async fn is_ready(listen: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(listen).await?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1) == Some("200"))
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An operator that is installed in the lab would look after the bench's cluster as well.
pub async fn refuse_a_second(client: &Client) -> anyhow::Result<()> {
    let params = ListParams::default().labels("app.kubernetes.io/name=quorate");
    let pods = Api::<Pod>::all(client.clone()).list_metadata(&params).await?;
    match pods.items.first() {
        None => Ok(()),
        Some(pod) => bail!(
            "an operator is installed in this cluster (Pod {} in {}) and would act too: make uninstall first",
            pod.name_any(),
            pod.namespace().unwrap_or_default()
        ),
    }
}

/// The API server's audit log, from a moment on.
pub struct Audit {
    path: PathBuf,
    from: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    stage: String,
    verb: String,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

impl Audit {
    pub fn from_now(path: &Path) -> anyhow::Result<Self> {
        let size = fs::metadata(path).with_context(|| format!("no audit log at {}", path.display()))?.len();
        Ok(Self { path: path.to_owned(), from: size })
    }

    /// The operator's writes since then, and how many more went to a lease.
    pub fn writes(&self) -> anyhow::Result<(Vec<String>, usize)> {
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() < self.from {
            bail!("the audit log was rotated meanwhile; run again");
        }
        file.seek(SeekFrom::Start(self.from))?;
        let (mut writes, mut leases, mut read) = (Vec::new(), 0, 0_usize);
        for line in BufReader::new(file).lines() {
            // The last line may be half written.
            let Ok(request) = serde_json::from_str::<Request>(&line?) else { continue };
            read += 1;
            let is_write = matches!(
                request.verb.as_str(),
                "create" | "update" | "patch" | "delete" | "deletecollection"
            );
            if request.stage != "ResponseComplete" || !request.user_agent.starts_with("quorate/") || !is_write
            {
                continue;
            }
            match request.object_ref {
                Some(object) if object.resource == "leases" => leases += 1,
                Some(object) => writes.push(format!(
                    "{} {}/{} {}/{}",
                    request.verb, object.resource, object.subresource, object.namespace, object.name
                )),
                None => writes.push(request.verb),
            }
        }
        // Nothing of anybody would mean that this is the wrong file, not that nothing was written.
        if read == 0 {
            bail!("nothing was added to {} meanwhile: is it this cluster's?", self.path.display());
        }
        Ok((writes, leases))
    }
}
