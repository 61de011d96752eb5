//! Whether a member is up, what keeps it from that, and how far it has come. Pure.

use super::heal::how_to_replace;
use super::step::Step;
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{Answer, ContainerFacts, NodeTrouble, Patience, PodFacts};
use crate::etcd::MemberStatus;
use crate::etcd::logs::says_a_downgrade_keeps_it_out;
use std::time::Duration;

/// A voter that is there in every sense: it answers under its own id in its own cluster, votes, and a
/// linearizable read through it succeeds (which proves that it has applied what the leader had
/// committed when the read began).
#[derive(Clone, Copy, Debug)]
pub(super) struct Up<'a> {
    pub status: &'a MemberStatus,
}

impl<'a> View<'a> {
    /// Whether a member is there in every sense.
    pub fn up(&self, member: &MemberName) -> Option<Up<'a>> {
        self.why_not_up(member).ok()
    }

    /// Whether a member is there in every sense, or else why not.
    pub fn why_not_up(&self, member: &MemberName) -> Result<Up<'a>, Notice> {
        let starting = |message: String| Err(Notice::of(Code::MemberStarting, message));
        let Some(pod) = self.pod(member) else {
            return starting(format!("{member} has no Pod"));
        };
        if pod.deleting {
            return Err(self.why_it_goes(Code::MemberStopping, &format!("{member}'s Pod"), pod));
        }
        if let Some(words) = &pod.unschedulable {
            return Err(Notice::of(Code::PodUnschedulable, format!("no node takes {member}: {words}")));
        }
        let Some(answer) = self.answer(member) else {
            return starting(format!("{member} {}", container_words(pod)));
        };
        let status = match &answer.status {
            Ok(status) => status,
            Err(_) if self.has_just_started(pod) => return starting(format!("{member} does not answer yet")),
            Err(_) if is_kept_out(pod) => {
                let message = format!(
                    "{member} does not start: its data remembers a downgrade job that leads to another minor than its \
                     own; one start on the next minor makes it forget"
                );
                return Err(self.with_a_way_out(member, Notice::of(Code::MemberDown, message)));
            }
            Err(_) => {
                let notice = Notice::of(Code::MemberDown, format!("{member} {}", container_words(pod)));
                return Err(self.with_a_way_out(member, notice));
            }
        };
        if let Some(expected) = self.cluster_id().filter(|id| *id != status.cluster_id) {
            return Err(Notice::of(
                Code::MembershipUnexpected,
                format!("{member} answers for cluster {}, not {expected}", status.cluster_id),
            ));
        }
        if let Some(expected) = self.voters().get(member).filter(|id| **id != status.member_id) {
            return Err(Notice::of(
                Code::MembershipUnexpected,
                format!("{member} answers as member {}, not {expected}", status.member_id),
            ));
        }
        if status.is_learner {
            return Err(Notice::of(Code::MembershipUnexpected, format!("{member} is a learner")));
        }
        if answer.read.is_err() {
            return Err(Notice::of(
                Code::MemberBehind,
                format!("a linearizable read through {member} does not answer"),
            ));
        }
        Ok(Up { status })
    }

    /// One that keeps its data in its Pod cannot be given anything else: where it stays down, a person has it replaced.
    fn with_a_way_out(&self, member: &MemberName, notice: Notice) -> Notice {
        if !self.keeps_data_in_its_pod(member) {
            return notice;
        }
        let remedy = format!("{} Where it stays so: {}", notice.remedy, how_to_replace(self, member));
        Notice { remedy, ..notice }
    }

    /// A Pod on a node that is silent does not go before somebody says what became of the node.
    pub fn why_it_goes(&self, code: Code, what: &str, pod: &PodFacts) -> Notice {
        let node = pod.node.as_deref().unwrap_or_default();
        if self.world.nodes_in_trouble.get(node) != Some(&NodeTrouble::NotReady) {
            return Notice::of(code, format!("{what} is going away"));
        }
        Notice::new(
            code,
            format!("{what} is going away, and its node {node} is not ready: it may still run there"),
            format!(
                "bring {node} back; or, where it is shut down for sure, kubectl taint node {node} \
                 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            ),
        )
    }

    /// Whether a container runs for a moment only: etcd may still be opening its data.
    fn has_just_started(&self, pod: &PodFacts) -> bool {
        const A_MOMENT: i64 = 60;
        let runs_for = pod.container.runs_for(self.world.now);
        pod.container.restarts == 0 && runs_for.is_some_and(|seconds| seconds < A_MOMENT)
    }

    /// Whether a container has come further than to the faults with which etcd does not start.
    pub fn has_stayed_up(&self, pod: &PodFacts) -> bool {
        const LONG_ENOUGH: i64 = 10;
        pod.container.runs_for(self.world.now).is_some_and(|seconds| seconds >= LONG_ENOUGH)
    }

    /// Whether a member's Pod was made and nothing says yet that it does not come up as it is.
    pub fn is_on_its_way(&self, member: &MemberName, pod: &PodFacts) -> bool {
        !has_failed(&pod.container)
            && pod.unschedulable.is_none()
            && !self.has_been_waited_for_too_long(member)
    }

    /// Whether this process has waited for a member, and for nothing else, for as long as its deadline.
    pub fn has_been_waited_for_too_long(&self, member: &MemberName) -> bool {
        self.has_been_waited_for(member, self.member_deadline())
    }

    /// Whether this process has waited for a member, and for nothing else, for so long.
    pub fn has_been_waited_for(&self, member: &MemberName, span: Duration) -> bool {
        self.has_lasted(&self.subject_of(member), span)
    }

    /// Whether this process has waited for this subject, and for nothing else, for so long without progress.
    pub fn has_lasted(&self, subject: &str, span: Duration) -> bool {
        let patience = &self.world.patience;
        patience.subject == subject && patience.without_progress >= span
    }

    /// Whether a step has been refused, and nothing else was waited for, for as long as a member may be down.
    pub fn has_been_refused_for_too_long(&self, step: &Step) -> bool {
        self.has_lasted(&Patience::subject_of_refused(step), self.member_deadline())
    }

    /// Members that are up.
    pub fn up_members(&self) -> Vec<(MemberName, Up<'a>)> {
        self.members().iter().filter_map(|member| Some((member.clone(), self.up(member)?))).collect()
    }

    /// Whether a member does not start because of a downgrade job, enabled or remembered, that leads to another
    /// minor than its own.
    pub fn is_kept_out_by_a_downgrade(&self, member: &MemberName) -> bool {
        self.up(member).is_none() && self.pod(member).is_some_and(is_kept_out)
    }

    /// How far a member has come since its Pod was made: grows through the stages of a start, those of which etcd tells
    /// in its log among them, then with each raft entry that it applies. A crash loop reaches its best stage once and
    /// then no better.
    pub fn start_progress(&self, member: &MemberName) -> u64 {
        const STAGE: u64 = 1 << 48;
        // More than there are stages in a log.
        const ENTRY: u64 = 1 << 8;
        let Some(pod) = self.pod(member).filter(|pod| !pod.deleting) else { return 0 };
        if pod.unschedulable.is_some() || pod.node.is_none() {
            return STAGE;
        }
        if !pod.container.has_run() {
            return 2 * STAGE;
        }
        if self.up(member).is_some() {
            // It is there; what its gate still asks for does not come by applying entries.
            return 5 * STAGE;
        }
        let status = self.answer(member).and_then(Answer::status);
        let stage = if status.is_none() { 3 * STAGE } else { 4 * STAGE };
        if pod.container.restarts > 0 {
            // Each start of a crash loop gets a little further in a busy cluster; that is no progress.
            return stage;
        }
        let applied = status.map_or(0, |status| status.raft_applied_index);
        // A snapshot that is received shows in the log before it shows in the index.
        stage + (applied * ENTRY + u64::from(pod.container.came_to)).min(STAGE - 1)
    }
}

/// Whether a container has ended, or cannot start for what it is made of.
pub(super) fn has_failed(container: &ContainerFacts) -> bool {
    let has_ended = container.exit_code.is_some() || container.restarts > 0;
    has_ended || (container.waiting.is_some() && !is_beginning(container))
}

/// Whether a container is being made just now, whatever became of it before: after a node has come back it may serve any
/// moment. In a crash loop the kubelet says so.
pub(super) fn is_beginning(container: &ContainerFacts) -> bool {
    container.waiting.as_ref().is_some_and(|(reason, _)| begins(reason))
}

fn begins(reason: &str) -> bool {
    ["ContainerCreating", "PodInitializing"].contains(&reason)
}

fn is_kept_out(pod: &PodFacts) -> bool {
    pod.container.last_words.as_deref().is_some_and(says_a_downgrade_keeps_it_out)
}

/// What the kubelet says of a member that does not answer. A crash loop waits and runs in turn, and is
/// told as one, so that the status is not written at each turn.
fn container_words(pod: &PodFacts) -> String {
    let container = &pod.container;
    match (&container.waiting, container.exit_code) {
        (waiting, Some(code)) if container.restarts > 0 || waiting.is_some() => {
            let reason = waiting
                .as_ref()
                .map(|(reason, _)| reason.as_str())
                .filter(|reason| *reason != "CrashLoopBackOff" && !begins(reason));
            let reason = reason.map(|reason| format!("{reason}, ")).unwrap_or_default();
            format!("does not stay up ({reason}last exit code {code})")
        }
        (Some((reason, message)), _) if message.is_empty() => format!("is not running yet ({reason})"),
        (Some((reason, message)), _) => format!("is not running yet ({reason}: {message})"),
        (None, Some(code)) if container.running_since.is_none() => format!("has ended with exit code {code}"),
        (None, _) if container.running_since.is_some() => "runs and does not answer".to_owned(),
        (None, _) => "is not running yet".to_owned(),
    }
}
