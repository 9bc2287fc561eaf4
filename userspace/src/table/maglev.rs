//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software
//! Network Load Balancer", NSDI 2016, section 3.4): which endpoint of a subset
//! a flow goes to.

use std::net::{IpAddr, SocketAddr};

use probe_common::hash::{identity, mix};

/// The most endpoints of one subset.
pub const MAX_ENDPOINTS: usize = 1024;

/// Slots of the table for so many endpoints: a prime of at least 127 times
/// their number, so that their shares differ by less than 1 %. None if there
/// are more than [`MAX_ENDPOINTS`].
pub const fn size_for(endpoints: usize) -> Option<u32> {
    Some(match endpoints {
        0 => 0,
        1 => 1,
        2..=4 => 509,
        5..=16 => 2039,
        17..=64 => 8191,
        65..=256 => 32749,
        257..=MAX_ENDPOINTS => 131_071,
        _ => return None,
    })
}

/// The seed of an endpoint: from its address and port, the same on all nodes.
pub fn seed(endpoint: SocketAddr) -> u64 {
    let port = endpoint.port().to_be_bytes();
    match endpoint.ip() {
        IpAddr::V4(ip) => identity(4, &[&ip.octets()[..], &port].concat()),
        IpAddr::V6(ip) => identity(6, &[&ip.octets()[..], &port].concat()),
    }
}

/// Fills `size` slots (a prime, or 1) with positions in `seeds`. Endpoints take
/// turns, in the order of their seeds, at their most preferred free slot.
pub fn populate(seeds: &[u64], size: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    if seeds.is_empty() || size == 0 {
        return Vec::new();
    }
    let mut turns: Vec<(u64, u32)> = seeds.iter().copied().zip(0..).collect();
    turns.sort_unstable();
    let modulus = u64::from(size);
    let mut walks: Vec<(u64, u64, u32)> = turns
        .iter()
        .map(|&(seed, position)| {
            let offset = mix(seed ^ 0x6f66_6673_6574) % modulus;
            let skip = mix(seed ^ 0x736b_6970) % (modulus - 1).max(1) + 1;
            (offset, skip, position)
        })
        .collect();
    let mut slots = vec![FREE; size as usize];
    let mut filled = 0;
    loop {
        for (next, skip, position) in &mut walks {
            while slots[*next as usize] != FREE {
                *next += *skip;
                if *next >= modulus {
                    *next -= modulus;
                }
            }
            slots[*next as usize] = *position;
            filled += 1;
            if filled == size {
                return slots;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(count: u64) -> Vec<u64> {
        (0..count).map(|n| mix(n + 1)).collect()
    }

    #[test]
    fn endpoints_share_the_slots_evenly() {
        for count in [1, 2, 3, 4, 5, 10, 16, 17, 64, 100] {
            let size = size_for(count).unwrap();
            let table = populate(&seeds(count as u64), size);
            let mut slots = vec![0u32; count];
            table.iter().for_each(|&p| slots[p as usize] += 1);
            let (least, most) = (slots.iter().min().unwrap(), slots.iter().max().unwrap());
            assert!(most - least <= 1, "{count} endpoints: {least} to {most} slots of {size}");
        }
    }

    #[test]
    fn order_of_endpoints_does_not_matter() {
        let forward = seeds(7);
        let backward: Vec<u64> = forward.iter().rev().copied().collect();
        let (a, b) = (populate(&forward, 2039), populate(&backward, 2039));
        for slot in 0..2039 {
            assert_eq!(forward[a[slot] as usize], backward[b[slot] as usize], "slot {slot}");
        }
    }

    #[test]
    fn removing_an_endpoint_moves_few_slots_of_the_others() {
        for count in [6usize, 10, 16, 40, 64] {
            let all = seeds(count as u64);
            let size = size_for(count).unwrap();
            let before = populate(&all, size);
            let after = populate(&all[..count - 1], size);
            let kept = before.iter().filter(|&&p| p as usize != count - 1).count();
            let moved = (0..size as usize)
                .filter(|&s| before[s] as usize != count - 1 && before[s] != after[s])
                .count();
            let limit = kept as f64 * (1.1 / count as f64 + 0.01);
            assert!((moved as f64) <= limit, "{count}: {moved} of {kept}, at most {limit}");
        }
    }
}
