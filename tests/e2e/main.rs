//! The operator on a real Kubernetes. Each test has a namespace and an operator process of its own, and
//! asserts from etcd's API and from Pod UIDs, not from the operator's word alone.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests and tools are I/O")]
