//! What users write and read: the kinds of `quorate.dev`, their conditions, codes and labels.
//!
//! Pure data: nothing here talks to anybody.

mod codes;
mod conditions;
mod crd;
mod duration;
mod effective;
mod etcd_cluster;
pub mod labels;
mod pod_spec;
pub mod qualified;
mod quantity;
mod recovery;
pub mod reserved;
mod status;
mod tls;
mod upkeep;

pub use codes::{Code, Severity};
pub use conditions::{ConditionType, condition, find_condition};
pub use crd::crd;
pub use duration::Duration;
pub use effective::EffectiveStatus;
pub use etcd_cluster::*;
pub use pod_spec::*;
pub use quantity::Quantity;
pub use recovery::*;
pub use status::*;
pub use tls::*;
pub use upkeep::*;

/// The API group of every kind of Quorate.
pub const GROUP: &str = "quorate.dev";

/// The field manager of every server-side apply, so that a field we stop writing is removed.
pub const FIELD_MANAGER: &str = "quorate";
