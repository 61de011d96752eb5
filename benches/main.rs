//! `make bench`: what an upgrade costs with Quorate, beside a plain StatefulSet that runs the very same Pods.
//!
//! Both sides take turns in one run, so that what else the machine does meets both:
//!
//! 1. three members are created, until they are ready;
//! 2. four clients write and one watches, while the version is changed and the members roll;
//! 3. everything that was acknowledged is read back, everything that was written must have been watched.
//!
//! Then the operator stands idle beside a cluster, and beside many: its memory, and what it writes to the API server.
//! The operator runs as a process of this machine, not as a Pod: the binary of the image, watching one
//! namespace, without a lease.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests and tools are I/O")]
#![allow(missing_docs, clippy::print_stdout, reason = "a program for the terminal")]
#![allow(clippy::doc_markdown, reason = "its help is read on a terminal")]

mod contender;
mod image;
mod leader;
mod live;
mod machine;
mod operator;
mod round;
mod scale;
mod statefulset;
mod table;
#[path = "../tests/support/writer.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod writer;

use anyhow::{Context as _, bail};
use clap::Parser;
use contender::{Contender, Side};
use kube::Client;
use operator::Operator;
use round::Round;
use std::path::PathBuf;
use std::time::Duration;
use table::Table;

/// How long the operator stands idle.
const IDLE: Duration = Duration::from_mins(1);
/// How long after the last write and the last look of the bench the idle minute begins.
const SETTLE: Duration = Duration::from_secs(20);

/// Measures Quorate beside a plain StatefulSet, on the lab.
#[derive(Parser)]
pub struct Args {
    /// The version that members are created on.
    #[arg(long, default_value = "3.5.9")]
    from: String,
    /// The version that they are rolled to.
    #[arg(long, default_value = "3.5.10")]
    to: String,
    /// How often each side is measured; medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many clients write.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// The operator's binary, the one of the image.
    #[arg(long)]
    operator: PathBuf,
    /// Where the operator logs.
    #[arg(long, default_value = "operator.log")]
    operator_log: PathBuf,
    /// The operator's image, as a docker-archive.
    #[arg(long)]
    image: PathBuf,
    /// The API server's audit log.
    #[arg(long)]
    audit_log: PathBuf,
    /// The document whose table is renewed.
    #[arg(long)]
    docs: Option<PathBuf>,
}

/// What the operator costs while nothing changes.
pub struct Idle {
    pub memory: operator::Memory,
    /// Writes to the API server within [`IDLE`], leases apart.
    pub writes: Vec<String>,
    pub leases: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    let client =
        Client::try_default().await.context("no Kubernetes; eval \"$(lab/lab env)\" says where it is")?;
    operator::refuse_a_second(&client).await?;
    let machine = machine::describe(&client).await?;
    println!("{machine}\n");

    let image = image::measure(&args.image)?;
    let plain = Contender::new(&client, Side::StatefulSet).await?;
    let quorate = Contender::new(&client, Side::Quorate).await?;
    let operator = Operator::start(&args.operator, &args.operator_log, quorate.namespace()).await?;
    plain.remove().await?;
    quorate.remove().await?;

    let (mut plain_rounds, mut rounds) = (Vec::new(), Vec::new());
    for number in 1..=args.rounds {
        plain_rounds.push(measure(&args, &plain, number).await?);
        plain.remove().await?;
        rounds.push(measure(&args, &quorate, number).await?);
        // The last one stays for the operator to look after.
        if number < args.rounds {
            quorate.remove().await?;
        }
    }
    let idle = idle(&operator, &args).await?;
    let scale = scale::measure(&client, quorate.namespace(), &operator).await?;
    quorate.remove().await?;

    let table = Table { plain: &plain_rounds, quorate: &rounds, idle: &idle, scale: &scale, image: &image };
    println!("\n{}", table.text());
    for write in &idle.writes {
        println!("written while idle: {write}");
    }
    if let Some(docs) = &args.docs {
        table::renew(docs, &machine, &args, &table)?;
        println!("The table in {} is renewed.", docs.display());
    }
    let broken: Vec<String> =
        plain_rounds.iter().chain(&rounds).flat_map(|round| round.receipt.broken()).collect();
    if !broken.is_empty() {
        bail!("a promise of etcd's was broken: {}", broken.join("; "));
    }
    Ok(())
}

async fn measure(args: &Args, contender: &Contender, number: usize) -> anyhow::Result<Round> {
    let round = round::measure(contender, &args.from, &args.to, args.writers)
        .await
        .with_context(|| format!("{} in round {number}", contender.side()))?;
    println!("round {number}  {:<12} {}", contender.side().to_string(), round.line());
    Ok(round)
}

async fn idle(operator: &Operator, args: &Args) -> anyhow::Result<Idle> {
    println!("idle for {} s", IDLE.as_secs());
    tokio::time::sleep(SETTLE).await;
    let audit = operator::Audit::from_now(&args.audit_log)?;
    tokio::time::sleep(IDLE).await;
    let (writes, leases) = audit.writes()?;
    Ok(Idle { memory: operator.memory()?, writes, leases })
}
