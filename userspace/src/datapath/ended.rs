//! Flows that have ended leave the tables.
//!
//! The kernel takes the place of the least recently used entry when a table is
//! full, and what is used least may be a flow that is silent, but lives. As long
//! as flows that have ended are cleared away, a table is full only when so many
//! flows live, or ended just now.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::util::nr_cpus;
use bytemuck::Pod;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{ESTABLISHED, Entry, is_closed};
use probe_common::new_flow::NewFlow;
use probe_common::parse::TCP;

use super::flows::{BATCH, Flows, Idle, Tables};
use super::{Clock, DatapathError, batch};

/// For so long the endpoint may repeat its last packets, or a client show that
/// it was not the client who closed: connection tracking waits as long in
/// TIME_WAIT.
const LINGER: Duration = Duration::from_secs(120);
/// Entries that each CPU may keep for itself, free, while others have none
/// (kernel/bpf/bpf_lru_list.c).
const FREE: u64 = 128;

/// How many flows there are, at least, in a table of `limit` live ones when no
/// place is free.
pub fn full_flows(limit: u64) -> u64 {
    // Without its number, as many as are usual.
    full_flows_of(limit, nr_cpus().unwrap_or(64) as u64)
}

fn full_flows_of(limit: u64, cpus: u64) -> u64 {
    // Of a flow one of two entries may have gone, and the other not yet.
    limit.saturating_sub(cpus * FREE / 2 + limit / 64).max(limit / 2)
}

/// When flows may leave the table.
#[derive(Debug, Clone, Copy)]
struct IdleLimits {
    now: u32,
    linger: u32,
    idle: Idle,
}

impl IdleLimits {
    /// Whether an entry is of a flow that has ended: closed for a while (as good
    /// as a handshake that got stuck), or silent for twice as long as makes it idle. A flow that is idle still
    /// knows its endpoint, should it go on after all.
    fn has_ended<A: Address>(&self, key: &Tuple<A>, entry: &Entry<A>) -> bool {
        let limit = if key.protocol == TCP { self.idle.tcp } else { self.idle.udp };
        // Signed: the programs' clock may be ahead of ours.
        let silent = i64::from(self.now.wrapping_sub(entry.seen).cast_signed());
        let stuck = key.protocol == TCP && entry.state & ESTABLISHED == 0;
        let closed = is_closed(entry.state) || stuck;
        silent > 2 * i64::from(limit) || closed && silent > self.linger.into()
    }
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Entries that the flow tables held before it, over IPv4 and IPv6. Two are a
    /// flow; of a full table, one of the two may have been evicted.
    pub entries: [u64; 2],
    /// Entries that were deleted, and new flows that were forgotten.
    pub deleted: usize,
}

impl Flows {
    /// Deletes the entries of flows that have ended.
    pub fn sweep_ended(&self, clock: Clock, idle: Idle) -> Result<Swept, DatapathError> {
        let limits = IdleLimits { now: clock.now(), linger: clock.ticks(LINGER), idle };
        let v4 = self.v4.sweep_ended::<V4>(limits).map_err(DatapathError::Flows)?;
        let v6 = self.v6.sweep_ended::<V6>(limits).map_err(DatapathError::Flows)?;
        Ok(Swept { entries: [v4.0, v6.0], deleted: v4.1 + v6.1 })
    }
}

impl Tables {
    /// How many entries the flow table held, and how many flows or entries are gone.
    fn sweep_ended<A: Address>(&self, limits: IdleLimits) -> io::Result<(u64, usize)>
    where
        Tuple<A>: Pod,
        Entry<A>: Pod,
        NewFlow<A>: Pod,
    {
        let forgotten = self.forget_new_flows(|new_flow: &NewFlow<A>| {
            limits.has_ended(&new_flow.forward_key(), &new_flow.entry(false))
        })?;
        let map = self.flows.fd().as_fd();
        let (mut all, mut found) = (0, Vec::new());
        batch::walk(map, BATCH, |key: &Tuple<A>, entry: &Entry<A>| {
            all += 1;
            if limits.has_ended(key, entry) {
                found.push((*key, entry.to(key).reversed()));
            }
        })?;
        let mut deleted = forgotten;
        for (key, pair) in found {
            match batch::get::<_, Entry<A>>(map, &pair)? {
                // One side alone has gone on: it keeps both.
                Some(other)
                    if other.to(&pair) == key.reversed() && !limits.has_ended(&pair, &other) => {}
                // Over there, too; or the pair was evicted, perhaps by another flow.
                _ => {
                    let goes = |key: &_, entry: &_| limits.has_ended(key, entry);
                    deleted += usize::from(self.delete_if(&key, goes)?);
                }
            }
        }
        Ok((all, deleted))
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use probe_common::flow::{FIN_CLIENT, FIN_ENDPOINT, RESET};
    use probe_common::parse::UDP;

    use super::*;

    #[test]
    fn flows_have_ended_when_they_were_closed_for_a_while_or_silent_for_long() {
        let limits = IdleLimits { now: 10_000, linger: 120, idle: Idle { tcp: 1000, udp: 10 } };
        let both = FIN_CLIENT | FIN_ENDPOINT;
        let cases = [
            (TCP, ESTABLISHED, 2000, false),
            (TCP, ESTABLISHED, 2001, true),
            (TCP, ESTABLISHED | both, 120, false),
            (TCP, ESTABLISHED | both, 121, true),
            (TCP, ESTABLISHED | RESET, 121, true),
            (TCP, ESTABLISHED | FIN_CLIENT, 2000, false),
            (TCP, 0, 120, false),
            (TCP, 0, 121, true),
            (UDP, 0, 20, false),
            (UDP, 0, 21, true),
            (TCP, both, u32::MAX, false),
        ];
        for (protocol, state, silent, wanted) in cases {
            let key = Tuple { protocol, ..Tuple::<V4>::zeroed() };
            let seen = limits.now.wrapping_sub(silent);
            let entry = Entry { seen, state, ..Entry::<V4>::zeroed() };
            let what = format!("protocol {protocol}, state {state}, silent for {silent}");
            assert_eq!(limits.has_ended(&key, &entry), wanted, "{what}");
        }
    }

    #[test]
    fn a_table_is_full_before_each_place_is_taken() {
        assert_eq!(full_flows_of(1024, 2), 1024 - 128 - 16);
        assert_eq!(full_flows_of(262_144, 2), 262_144 - 128 - 4096);
        assert_eq!(full_flows_of(1024, 256), 512, "a small table on a large machine");
    }
}
