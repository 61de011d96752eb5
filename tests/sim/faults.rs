//! Faults by chance.
