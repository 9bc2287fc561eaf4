//! Test harness of weir.
