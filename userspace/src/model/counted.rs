//! Numbers of things, for people.

/// `1 split`, `2 splits`.
pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
