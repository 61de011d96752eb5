//! Builders of Kubernetes objects. Pure: the same input gives the same object.

pub mod claim;
pub mod container;
pub mod pod;
pub mod probe;
pub mod support;
