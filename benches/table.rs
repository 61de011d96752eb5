//! The table of budgets: as text, and as the content of docs/benchmarks.md.

use crate::image::Size;
use crate::machine::{self, Machine};
use crate::operator::Memory;
use crate::round::Round;
use crate::scale::{self, Scale};
use crate::{Args, Idle};
use anyhow::Context as _;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";
const LONGEST_PAUSE: Duration = Duration::from_millis(450);
const HEAD: [&str; 6] = ["what", "budget", "StatefulSet", "Quorate", "ratio", "within budget"];

pub struct Table<'a> {
    pub plain: &'a [Round],
    pub quorate: &'a [Round],
    pub idle: &'a Idle,
    pub scale: &'a Scale,
    pub image: &'a Size,
}

type Row = [String; 6];

impl Table<'_> {
    fn rows(&self) -> Vec<Row> {
        vec![
            self.pause(),
            self.time("– while nobody is touched, in 15 s: noise", None, |r| r.noise),
            self.time("roll, first member stopped to last gate passed", Some(1.3), |r| r.roll),
            self.time("– to last Pod ready on the new version", None, |r| r.pods_roll),
            self.time("– edit to done", None, |r| r.edit_to_done),
            self.time("creation of 3 members until Ready", Some(1.2), |r| r.create),
            self.count("lost acknowledged writes", true, |r| r.receipt.lost.len() as u64),
            self.count("missed watch events", true, |r| r.receipt.missed.len() as u64),
            self.count("failed writes", false, |r| r.receipt.tally.failed),
            self.count("leader changes", false, |r| r.leader_changes.into()),
            self.memory(),
            self.memory_of_many(),
            self.writes(),
            self.image(),
        ]
    }

    /// A time of both sides; the budget is a multiple of the StatefulSet's.
    fn time(&self, what: &str, budget: Option<f64>, of: impl Fn(&Round) -> Duration) -> Row {
        let (plain, quorate) = (sorted(self.plain, &of), sorted(self.quorate, &of));
        let ratio = median(&quorate).as_secs_f64() / median(&plain).as_secs_f64();
        let budget_text = budget.map_or("–".to_owned(), |budget| format!("≤ {budget} ×"));
        let kept = budget.map_or("–", |budget| yes(ratio <= budget));
        [
            what.to_owned(),
            budget_text,
            times(&plain),
            times(&quorate),
            format!("{ratio:.2} ×"),
            kept.to_owned(),
        ]
    }

    /// docs/adr/0008: absolute, since the StatefulSet's own is as short as the machine lets it be.
    fn pause(&self) -> Row {
        let of = |round: &Round| round.receipt.tally.longest_gap;
        let mut row = self.time("longest time without an acknowledged write, upgrade", None, of);
        row[1] = format!("≤ {} ms", LONGEST_PAUSE.as_millis());
        row[5] = yes(median(&sorted(self.quorate, of)) <= LONGEST_PAUSE).into();
        row
    }

    /// A count of both sides, summed up over all rounds where it must be nothing.
    fn count(&self, what: &str, none: bool, of: impl Fn(&Round) -> u64) -> Row {
        let (plain, quorate) = (sorted(self.plain, &of), sorted(self.quorate, &of));
        let text = |counts: &[u64]| {
            if none { counts.iter().sum::<u64>().to_string() } else { with_all(counts, u64::to_string) }
        };
        let kept = if none { yes(quorate.iter().all(|count| *count == 0)) } else { "–" };
        let budget = if none { "0" } else { "–" };
        [what.into(), budget.into(), text(&plain), text(&quorate), "–".into(), kept.into()]
    }

    fn memory(&self) -> Row {
        let memory = self.idle.memory;
        own("operator memory, one cluster", "≤ 20 MiB", held(memory), memory.resident <= 20 << 20)
    }

    fn memory_of_many(&self) -> Row {
        let Scale { memory, reported } = self.scale;
        let what = format!("– and {} more that are paused", scale::CLUSTERS);
        let text = format!("{}; all reported within {} s", held(*memory), reported.as_secs());
        own(&what, "≤ 100 MiB", text, memory.resident <= 100 << 20)
    }

    fn writes(&self) -> Row {
        let (writes, leases) = (self.idle.writes.len(), self.idle.leases);
        let text = format!("{writes} (leases: {leases})");
        own("API server writes in 60 s when nothing changes", "0, the Lease apart", text, writes == 0)
    }

    fn image(&self) -> Row {
        let Size { uncompressed, compressed } = *self.image;
        let text = format!("{} ({} compressed)", mb(uncompressed), mb(compressed));
        own("operator image", "≤ 25 MB", text, uncompressed <= 25_000_000)
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let rows: Vec<Row> = std::iter::once(HEAD.map(str::to_owned)).chain(self.rows()).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&HEAD.map(str::to_owned)) + &line(&HEAD.map(|_| "---".to_owned()));
        text.extend(self.rows().iter().map(|row| line(row)));
        text
    }
}

fn held(memory: Memory) -> String {
    let Memory { resident, anonymous, peak } = memory;
    format!("{} ({} anonymous, peak {})", mib(resident), mib(anonymous), mib(peak))
}

/// What only an operator has.
fn own(what: &str, budget: &str, text: String, kept: bool) -> Row {
    [what.into(), budget.into(), "–".into(), text, "–".into(), yes(kept).into()]
}

/// Puts the table between the document's markers.
pub fn renew(docs: &Path, machine: &Machine, args: &Args, table: &Table<'_>) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(docs).with_context(|| format!("cannot read {}", docs.display()))?;
    let missing = || format!("{} has no {BEGIN} … {END}", docs.display());
    let (before, rest) = old.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    let (from, to, rounds, writers) = (&args.from, &args.to, args.rounds, args.writers);
    let load = machine::load()?;
    let measured = format!(
        "Measured {machine}, {load} when it ended. etcd {from} → {to}, {writers} clients writing; medians of {rounds} rounds each, all of them in parentheses."
    );
    let table = table.markdown();
    std::fs::write(docs, format!("{before}{BEGIN}\n{measured}\n\n{table}{END}{after}"))?;
    Ok(())
}

fn sorted<T: Ord>(rounds: &[Round], of: impl Fn(&Round) -> T) -> Vec<T> {
    let mut all: Vec<T> = rounds.iter().map(of).collect();
    all.sort_unstable();
    all
}

/// Of what is sorted.
fn median<T: Copy>(sorted: &[T]) -> T {
    sorted[sorted.len() / 2]
}

fn with_all<T: Copy>(sorted: &[T], text: impl Fn(&T) -> String) -> String {
    let all: Vec<String> = sorted.iter().map(&text).collect();
    format!("{} ({})", text(&median(sorted)), all.join(", "))
}

/// In milliseconds where the median is below three seconds.
fn times(sorted: &[Duration]) -> String {
    if median(sorted) < Duration::from_secs(3) {
        with_all(sorted, |time| time.as_millis().to_string()).replacen(" (", " ms (", 1)
    } else {
        with_all(sorted, |time| format!("{:.1}", time.as_secs_f64())).replacen(" (", " s (", 1)
    }
}

fn mib(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn mb(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

const fn yes(kept: bool) -> &'static str {
    if kept { "yes" } else { "NO" }
}
