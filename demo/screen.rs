//! The live view: redrawn in place on a terminal; elsewhere a line when something changed.

use super::Look;
use super::writer::Tally;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use quorate::api::{Action, ConditionType, ProgressStatus, find_condition};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

const GREEN: &str = "32";
const YELLOW: &str = "33";
const DIM: &str = "2";
const BOLD: &str = "1";
/// Of the line that says what the operator is doing; terminals have 80 columns at least.
const WIDTH: usize = 76;

pub struct Screen {
    from: String,
    to: String,
    terminal: bool,
    drawn: usize,
    said: String,
}

impl Screen {
    pub fn new(from: &str, to: &str) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { from: from.to_owned(), to: to.to_owned(), terminal, drawn: 0, said: String::new() }
    }

    /// Shows one look. `since` is the time since the edit.
    pub fn draw(&mut self, look: &Look, tally: &Tally, since: Option<Duration>) {
        if !self.terminal {
            return self.say(look, since);
        }
        let mut text = String::new();
        let clock =
            since.map_or("before the change".to_owned(), |since| format!("{:>5.1} s", since.as_secs_f64()));
        let _ = writeln!(
            text,
            "  {}  {} → {}   {}",
            self.paint(BOLD, &look.cluster.name_any()),
            self.from,
            self.paint(BOLD, &self.to),
            self.paint(DIM, &clock)
        );
        let _ = writeln!(text, "  {}\n", self.paint(DIM, &doing(look)));
        let _ = writeln!(
            text,
            "  {}",
            self.paint(
                DIM,
                &format!("{:<14}{:<11}{:<10}{:<13}{}", "MEMBER", "STATE", "VERSION", "NODE", "LEADER")
            )
        );
        let leader = look.cluster.status.as_ref().and_then(|status| status.leader.clone());
        for member in members(look) {
            let (mark, colour) = match member.state {
                "ready" => ("●", GREEN),
                _ => ("◌", YELLOW),
            };
            let version = format!("{:<10}", member.version);
            let version = if member.version == self.to { self.paint(GREEN, &version) } else { version };
            let leads = if leader.as_deref() == Some(member.name.as_str()) { "★" } else { "" };
            let _ = writeln!(
                text,
                "  {} {:<12}{}{version}{:<13}{leads}",
                self.paint(colour, mark),
                member.name,
                self.paint(colour, &format!("{:<11}", member.state)),
                member.node
            );
        }
        let _ = writeln!(
            text,
            "\n  writes   {} acknowledged   {} failed   longest pause {} ms",
            self.paint(BOLD, &grouped(tally.acked)),
            tally.failed,
            tally.longest_gap.as_millis()
        );
        let lines: Vec<&str> = text.lines().collect();
        let mut out = std::io::stdout().lock();
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        // Each line is cleared to its end, and what is below the last one, should a longer view have stood there.
        let _ = write!(out, "{up}{}\x1b[K\n\x1b[J", lines.join("\x1b[K\n"));
        let _ = out.flush();
        self.drawn = lines.len();
    }

    fn say(&mut self, look: &Look, since: Option<Duration>) {
        let members: Vec<String> = members(look)
            .iter()
            .map(|member| format!("{} {} {}", member.name, member.version, member.state))
            .collect();
        let line = format!("{}  |  {}", members.join(", "), doing(look));
        if line != self.said {
            println!("  {:>6.1} s  {line}", since.unwrap_or_default().as_secs_f64());
            self.said = line;
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

struct Member {
    name: String,
    state: &'static str,
    version: String,
    node: String,
}

fn members(look: &Look) -> Vec<Member> {
    let listed = look.cluster.status.iter().flat_map(|status| &status.members);
    let mut names: Vec<String> = listed.map(|member| member.name.clone()).collect();
    names.extend(look.pods.iter().map(kube::ResourceExt::name_any));
    names.sort();
    names.dedup();
    names
        .into_iter()
        .map(|name| match look.pods.iter().find(|pod| pod.name_any() == name) {
            Some(pod) => Member { name, state: state(pod), version: version(pod), node: node(pod) },
            None => Member { name, state: "stopped", version: String::new(), node: String::new() },
        })
        .collect()
}

fn state(pod: &Pod) -> &'static str {
    match () {
        () if pod.metadata.deletion_timestamp.is_some() => "stopping",
        () if is_ready(pod) => "ready",
        () => "starting",
    }
}

/// Whether the kubelet says that the Pod is ready, and nobody stops it.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// From the image's tag: what the Pod was made to run.
fn version(pod: &Pod) -> String {
    let image =
        pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|container| container.image.as_deref());
    let tag = image.and_then(|image| image.rsplit_once(':')).map_or("", |(_, tag)| tag);
    tag.trim_start_matches('v').to_owned()
}

fn node(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

/// What the operator says it is doing.
fn doing(look: &Look) -> String {
    let Some(status) = &look.cluster.status else { return String::new() };
    let words = |progress: &ProgressStatus| {
        let step = match (progress.step, progress.steps) {
            (Some(step), Some(steps)) => format!("step {step} of {steps} · "),
            _ => String::new(),
        };
        let waiting = progress.waiting_for.as_ref().map_or(String::new(), |what| format!(" · {what}"));
        format!("{step}{} {}{waiting}", in_words(progress.action), progress.member)
    };
    let next = || {
        let step = status.plan.as_ref()?.steps.first()?;
        Some(format!("next: {} {}", in_words(step.action), step.member.as_deref().unwrap_or_default()))
    };
    let mood = || Some(find_condition(&status.conditions, ConditionType::Ready)?.message.clone());
    let text = status.progress.as_ref().map(words).or_else(next).or_else(mood).unwrap_or_default();
    // A line that wraps would spoil the redrawing.
    if text.chars().count() > WIDTH { text.chars().take(WIDTH - 1).chain(['…']).collect() } else { text }
}

/// `ReplaceMember` as `replace member`.
fn in_words(action: Action) -> String {
    let mut words = String::new();
    for letter in format!("{action:?}").chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
