//! `spec.storage`: volumes that are to be larger grow where they are, one at a time; those that are to be of another class
//! are exchanged with their members. Nothing is ever made smaller.

use super::gates;
use super::loss::is_beyond_a_revision;
use super::maintenance::takes_with_a_copy;
use super::roll::{next_to_mend, order};
use super::step::{Next, Step};
use super::view::View;
use crate::api::{Action, Code, StepStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::ClaimFacts;
use crate::cluster::spec::{keeps_data_in_pods, storage_class};
use std::time::Duration;

/// A kubelet makes the file system of a volume that is in use larger within seconds. A driver that cannot do so while it is
/// used waits for a restart.
const GROWS_ONLINE_WITHIN: Duration = Duration::from_mins(1);

/// The claims of those who vote.
pub(super) fn claims<'a>(view: &View<'a>) -> Vec<(MemberName, &'a ClaimFacts)> {
    let voters = order(view, view.voters().keys().cloned().collect());
    let claim = |member: &MemberName| view.claim_of(member).filter(|claim| !claim.in_pod);
    voters.into_iter().filter_map(|member| Some((member.clone(), claim(&member)?))).collect()
}

/// Members keep their data in another way than the spec says.
pub(super) fn of_another_kind(view: &View<'_>) -> Option<Notice> {
    let cluster = &view.world.cluster;
    let in_pods = keeps_data_in_pods(&cluster.spec);
    let (member, _) = view.world.claims.iter().find(|(_, claim)| claim.in_pod != in_pods)?;
    let (message, remedy) = if in_pods {
        let (claim, namespace) = (member.claim(), &cluster.namespace);
        let message = format!("spec.storage.emptyDir is set, and there is the volume claim {claim}");
        let remedy = format!(
            "remove spec.storage.emptyDir, or give the EtcdCluster another name; or, if nothing on the volumes is needed: \
             kubectl -n {namespace} delete pvc {claim}"
        );
        (message, remedy)
    } else {
        let message = format!("{member} keeps its data in its Pod, and spec.storage.emptyDir is not set");
        (message, "set spec.storage.emptyDir again".to_owned())
    };
    Some(Notice::new(Code::StorageChangeUnsupported, message, remedy))
}

fn wanted_size(view: &View<'_>) -> Option<u64> {
    view.desired.as_ref().ok()?.storage_size.bytes()
}

/// What cannot be done with the volumes that there are.
pub(super) fn refusals(view: &View<'_>) -> Option<Notice> {
    if let Some(notice) = of_another_kind(view) {
        return Some(notice);
    }
    let wanted = wanted_size(view)?;
    let shown = view.desired.as_ref().ok()?.storage_size.as_str();
    let claims = claims(view);
    let refuse =
        |message: String, remedy: String| Some(Notice::new(Code::StorageChangeUnsupported, message, remedy));
    if view.keeps_data_in_pods()
        && let Some((member, taken)) = a_database_that_does_not_fit(view, wanted)
    {
        return refuse(
            format!(
                "spec.storage.size is {shown}, and {member}'s database, its copy and its WAL may take {taken} bytes: the kubelet \
                 would evict new members, and their data with them"
            ),
            format!("set spec.storage.size to more than {taken} bytes"),
        );
    }
    if let Some((member, _)) = claims.iter().find(|(_, claim)| claim.size.is_some_and(|size| size > wanted)) {
        return refuse(
            format!("spec.storage.size is {shown}, the volume of {member} is larger; volumes never shrink"),
            "set spec.storage.size to what the volumes have".to_owned(),
        );
    }
    let classes = view.world.classes.as_ref();
    let named = storage_class(&view.world.cluster.spec);
    if let Some((class, classes)) = named.zip(classes)
        && !classes.contains_key(class)
        && claims.iter().any(|(_, claim)| has_another_class(view, claim))
    {
        let there: Vec<&str> = classes.keys().map(String::as_str).collect();
        return refuse(
            format!("spec.storage.storageClassName is {class:?}, and there is no StorageClass of that name"),
            format!("create it, or name one that is there: {}", there.join(", ")),
        );
    }
    let is_fixed = |claim: &ClaimFacts| {
        let grows = |class: &String| classes.is_some_and(|classes| classes.get(class) != Some(&true));
        claim.class.as_ref().is_some_and(grows)
    };
    let too_small = |claim: &ClaimFacts| claim.size.is_some_and(|size| size < wanted);
    let is_exchanged = |claim: &ClaimFacts| has_another_class(view, claim);
    let (member, claim) =
        claims.iter().find(|(_, claim)| too_small(claim) && is_fixed(claim) && !is_exchanged(claim))?;
    let class = claim.class.as_deref().unwrap_or_default();
    let cluster = &view.world.cluster;
    refuse(
        format!(
            "spec.storage.size is {shown}, the volume of {member} is smaller, and its class {class} does not let volumes grow"
        ),
        format!(
            "set allowVolumeExpansion on the StorageClass if its driver can do that; or exchange the members one after the \
             other, each for one with a new volume: kubectl annotate etcd -n {} {} quorate.dev/replace={member} --overwrite; \
             or set spec.storage.size back",
            cluster.namespace, cluster.name
        ),
    )
}

pub(super) fn has_another_class(view: &View<'_>, claim: &ClaimFacts) -> bool {
    claim.is_of_another_class(storage_class(&view.world.cluster.spec))
}

/// A member that has more room than this, and needs it.
fn a_database_that_does_not_fit(view: &View<'_>, wanted: u64) -> Option<(MemberName, u64)> {
    let has_more = |member: &MemberName| view.claim_of(member).and_then(|claim| claim.size) > Some(wanted);
    let members = view.up_members().into_iter().filter(|(member, _)| has_more(member));
    let mut members = members.map(|(member, up)| (member, takes_with_a_copy(up, wanted)));
    members.find(|(_, taken)| *taken > wanted)
}

/// What is left of what the spec wants of the volumes, in words; nothing where they are as it says.
pub(super) fn change(view: &View<'_>) -> Option<String> {
    view.cluster_id()?;
    let claims = claims(view);
    let class = storage_class(&view.world.cluster.spec)
        .filter(|_| claims.iter().any(|(_, claim)| has_another_class(view, claim)));
    let size = to_grow(view).first().and_then(|_| Some(view.desired.as_ref().ok()?.storage_size.as_str()));
    let said: Vec<String> =
        size.map(str::to_owned).into_iter().chain(class.map(|class| format!("class {class}"))).collect();
    (!said.is_empty()).then(|| said.join(" of "))
}

/// Volumes that stay and are not as large as they are to be.
fn to_grow<'a>(view: &View<'a>) -> Vec<(MemberName, &'a ClaimFacts)> {
    let Some(wanted) = wanted_size(view) else { return Vec::new() };
    let mut claims = claims(view);
    claims.retain(|(_, claim)| {
        let asks = claim.size.is_some_and(|size| size < wanted);
        (asks || grows(claim)) && !claim.deleting && !has_another_class(view, claim)
    });
    claims
}

/// Whether it was asked for more than it has.
fn grows(claim: &ClaimFacts) -> bool {
    claim.capacity.zip(claim.size).is_some_and(|(has, asked)| has < asked)
}

/// One at a time: what a driver does to the first shows before the second is touched.
pub(super) fn a_volume_that_is_too_small(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let (wanted, to_grow) = (wanted_size(view)?, to_grow(view));
    if view.held().is_some() || next_to_mend(view).is_some() {
        // A member that is down and that the roll may mend comes first.
        return None;
    }
    let growing = to_grow.iter().find(|(_, claim)| grows(claim));
    if let Some((member, claim)) = growing {
        if is_beyond_a_revision(view, member) {
            // What is lost is answered otherwise, and no larger file system brings it back.
            return None;
        }
        if claim.size.is_some_and(|size| size >= wanted) {
            return Some(grows_on(view, member, claim));
        }
    }
    // It is asked for more where the spec has come to want more meanwhile, and no other one before it is done.
    let (member, _) = growing.or_else(|| to_grow.first())?;
    let size = view.desired.as_ref().ok()?.storage_size.clone();
    Some(Next::Do(Step::ExpandClaim { member: member.clone(), size }))
}

fn grows_on(view: &View<'_>, member: &MemberName, claim: &ClaimFacts) -> Next {
    let subject = format!("grow/{member}");
    let mut how = match (&claim.resize_error, claim.awaits_file_system) {
        (Some(error), _) => format!("; the driver says: {error}"),
        (None, true) => "; its file system is made larger by the kubelet".to_owned(),
        (None, false) => String::new(),
    };
    if claim.awaits_file_system
        && view.has_lasted(&subject, GROWS_ONLINE_WITHIN)
        && let Some(pod) = view.pod(member).filter(|pod| !pod.deleting)
    {
        // Its file system is made larger when it is mounted anew.
        let may_stop = || gates::nodes_are_well(view).and_then(|()| gates::before(view, member));
        match may_stop() {
            Err(notice) if !gates::is_down(view, member) => {
                how = format!(" when its Pod is started anew, which waits: {}", notice.message);
            }
            _ => {
                let revision = pod.revision.clone();
                return view.claim_member(Action::RestartMember, member, &pod.uid, revision, None);
            }
        }
    }
    let message = format!("the volume of {member} grows to {}{how}", size_of(claim));
    Next::Wait(view.wait(Notice::of(Code::VolumeGrowing, message), Some(member), subject, 0))
}

fn size_of(claim: &ClaimFacts) -> String {
    let bytes = claim.size.unwrap_or_default();
    if bytes.is_multiple_of(1 << 30) { format!("{}Gi", bytes >> 30) } else { format!("{}Mi", bytes >> 20) }
}

/// The next member whose volume is of another class than the spec names: the leader last. Once all members are what the rest
/// of the spec says.
pub(super) fn to_exchange(view: &View<'_>) -> Option<MemberName> {
    view.outdated().is_empty().then_some(())?;
    claims(view).into_iter().find(|(_, claim)| has_another_class(view, claim)).map(|(member, _)| member)
}

/// The steps that make volumes larger, before those of a roll.
pub(super) fn volumes_to_grow(view: &View<'_>) -> Vec<StepStatus> {
    let to = view.desired.as_ref().ok().map(|desired| desired.storage_size.as_str().to_owned());
    let step = |member: &MemberName| StepStatus {
        action: Action::ExpandVolume,
        member: Some(member.to_string()),
        to: to.clone(),
        reason: "spec.storage.size asks for more; no restart, unless the volume's driver needs one"
            .to_owned(),
    };
    to_grow(view).iter().map(|(member, _)| step(member)).collect()
}
