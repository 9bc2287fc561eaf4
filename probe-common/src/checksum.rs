//! Internet checksum arithmetic: RFC 1071, and incremental updates by
//! RFC 1624, equation 3. Sums are of 16-bit words in native order, which is
//! right on either endianness (RFC 1071, section 2).

/// Folds a sum to 16 bits with end-around carry.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum field after the data that it covers changed by `delta`, the
/// folded sum of what came and of the complement of what went.
#[inline(always)]
pub const fn update(field: u16, delta: u16) -> u16 {
    !fold(!field as u64 + delta as u64)
}
