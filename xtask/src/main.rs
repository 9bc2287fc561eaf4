//! weir development commands.
fn main() {}
