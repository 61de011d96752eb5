//! The loop of one cluster: observe (I/O) → plan (pure) → act (I/O) → report (pure).

pub mod names;
pub mod notice;
pub mod objects;
pub mod observation;
pub mod plan;
pub mod revision;
pub mod spec;
