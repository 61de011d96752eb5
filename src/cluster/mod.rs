//! The loop of one cluster: observe (I/O) → plan (pure) → act (I/O) → report (pure).

pub mod rbac;
