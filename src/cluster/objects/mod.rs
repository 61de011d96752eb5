//! Builders of Kubernetes objects. Pure: the same input gives the same object.

pub mod certificates;
#[cfg(test)]
mod checks;
pub mod claim;
pub mod container;
pub mod data;
pub mod metadata;
pub mod pod;
pub mod probe;
pub mod recovery;
pub mod secrets;
pub mod support;
