//! weir's XDP and TC programs, as they are in the object that the agent carries.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// Keys and values by reference: a copy of each would not fit the stack of 512 bytes.
#![allow(clippy::needless_borrows_for_generic_args)]
// For asm!, see programs::compiler and programs::set_lock.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
