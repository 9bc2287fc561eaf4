//! Flows of one generation's tables, copied to those of another one.
//!
//! New flows become entries of the flow tables, as they would within a second.
//! Handshakes under way stay where they are: they are over soon, one way or
//! another, and until then the generation that knows them deals with them.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use bytemuck::{Pod, bytes_of};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{ADOPTED, ESTABLISHED, Entry, RESET, is_closed, is_forward};
use probe_common::new_flow::{NewFlow, REPLY_KEY};
use probe_common::parse::TCP;

use super::error::{During as _, MigrationError};
use super::layout::Layout;
use super::opened::Opened;
use crate::datapath::Clock;
use crate::datapath::batch::Put;
use crate::datapath::flows::BATCH;

/// A handshake that is older, in ticks, waits for nobody who is there.
const FRESH: u32 = 2;

/// How flows are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Nobody else writes the tables that are filled: what is there is written over.
    Fill,
    /// As that, and what is not in the other tables any more is removed.
    Replace,
    /// Programs steer by them already: what is missing is added, and of flows that
    /// are there what the other generation has noted since.
    Add,
}

/// What a pass found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Flows that were copied anew, or changed.
    pub copied: usize,
    /// Handshakes under way.
    pub handshakes: usize,
}

/// The flow tables of both families, of one generation.
pub(super) struct Tables {
    layout: Layout,
    v4: Family,
    v6: Family,
}

struct Family {
    flows: Opened,
    new_flows: Opened,
}

impl Family {
    fn at(maps: &Path, number: u8, layout: &Layout) -> Result<Self, MigrationError> {
        let open = |name: &str| Opened::at(&maps.join(format!("{name}_V{number}")));
        Ok(Self { flows: open("FLOWS")?, new_flows: open(layout.new_flows())? })
    }
}

impl Tables {
    /// Those that are pinned in a directory.
    pub fn at(maps: &Path, layout: &Layout) -> Result<Self, MigrationError> {
        let [v4, v6] = [4, 6].map(|number| Family::at(maps, number, layout));
        Ok(Self { layout: layout.clone(), v4: v4?, v6: v6? })
    }

    /// Copies flows to other tables.
    pub fn copy(&self, to: &Self, how: Pass) -> Result<Found, MigrationError> {
        let layouts = (&self.layout, &to.layout);
        let v4 = copy::<V4>(&self.v4, &to.v4, layouts, how).during("copy flows over IPv4")?;
        let v6 = copy::<V6>(&self.v6, &to.v6, layouts, how).during("copy flows over IPv6")?;
        Ok(Found { copied: v4.copied + v6.copied, handshakes: v4.handshakes + v6.handshakes })
    }

    /// How many flows live, of the family that has more.
    pub fn count(&self) -> Result<u32, MigrationError> {
        let v4 = self.live::<V4>(&self.v4).during("count flows")?;
        let v6 = self.live::<V6>(&self.v6).during("count flows")?;
        Ok(v4.max(v6))
    }

    fn live<A: Address>(&self, family: &Family) -> io::Result<u32>
    where
        Entry<A>: Pod,
    {
        let mut entries = 0u32;
        family.flows.bytes().walk(BATCH, |_, bytes| {
            let entry = self.layout.entry::<A>(bytes);
            entries += u32::from(entry.is_some_and(|entry| !is_closed(entry.state)));
        })?;
        Ok(entries.div_ceil(2))
    }
}

fn copy<A: Address>(
    from: &Family,
    to: &Family,
    (before, after): (&Layout, &Layout),
    how: Pass,
) -> io::Result<Found>
where
    Tuple<A>: Pod,
    Entry<A>: Pod,
    NewFlow<A>: Pod,
{
    let (now, mut found, mut failed) = (Clock::new().now(), Found::default(), Ok(()));
    let mut moved = Vec::new();
    from.new_flows.bytes().walk(BATCH, |_, bytes| {
        let flow = before.new_flow::<A>(bytes);
        let flow = flow.filter(|flow| flow.kind & REPLY_KEY == 0);
        let Some(flow) = flow else { return };
        if !is_handshake(&flow) {
            moved.push((flow.reply_key(), flow.entry(true)));
            moved.push((flow.forward_key(), flow.entry(false)));
        } else if now.wrapping_sub(flow.seen).cast_signed() <= FRESH.cast_signed() {
            found.handshakes += 1;
        }
    })?;
    let target = Target { family: to, layout: after, how };
    let mut put = |key: &Tuple<A>, entry: &Entry<A>| match target.put(key, entry) {
        Ok(copied) => found.copied += usize::from(copied && is_forward(entry.direction)),
        Err(error) => failed = Err(error),
    };
    // Where there is little room, those go first that came first: what is closed.
    let passes: &[Filter] =
        if how == Pass::Fill { &[is_closed, |state| !is_closed(state)] } else { &[|_| true] };
    for has_turn in passes {
        let moved = moved.iter().filter(|(_, entry)| has_turn(entry.state));
        moved.for_each(|(key, entry)| put(key, entry));
        from.flows.bytes().walk(BATCH, |key, bytes| {
            if let Some(entry) = before.entry::<A>(bytes).filter(|entry| has_turn(entry.state)) {
                put(&bytemuck::pod_read_unaligned(key), &entry);
            }
        })?;
    }
    failed?;
    if how == Pass::Replace {
        target.remove_others(from, &moved)?;
    }
    Ok(found)
}

/// Whether an entry of that state is copied now.
type Filter = fn(u16) -> bool;

/// Whether one side has not spoken yet, and is about to.
fn is_handshake<A: Address>(new_flow: &NewFlow<A>) -> bool {
    new_flow.protocol == TCP && new_flow.state & (ESTABLISHED | ADOPTED | RESET) == 0
}

/// Tables that flows are copied to.
struct Target<'a> {
    family: &'a Family,
    layout: &'a Layout,
    how: Pass,
}

impl Target<'_> {
    /// Whether it was not there, or was another one.
    fn put<A: Address>(&self, key: &Tuple<A>, entry: &Entry<A>) -> io::Result<bool>
    where
        Tuple<A>: Pod,
        Entry<A>: Pod,
    {
        let (map, key) = (self.family.flows.bytes(), bytes_of(key));
        if self.how != Pass::Add {
            return map.put(key, &self.layout.bytes(entry), Put::Over);
        }
        let there = map.get(key)?.and_then(|bytes| self.layout.entry::<A>(&bytes));
        let Some(there) = there else {
            return map.put(key, &self.layout.bytes(entry), Put::New);
        };
        match later(entry, &there) {
            // A program may note something else in these microseconds, which is lost: it says so
            // again with the next packet.
            Some(merged) => map.put(key, &self.layout.bytes(&merged), Put::Over),
            None => Ok(false),
        }
    }

    /// Removes what is not in the other tables.
    fn remove_others<A: Address>(
        &self,
        from: &Family,
        moved: &[(Tuple<A>, Entry<A>)],
    ) -> io::Result<()>
    where
        Tuple<A>: Pod,
    {
        let moved: HashSet<&[u8]> = moved.iter().map(|(key, _)| bytes_of(key)).collect();
        let (map, mut gone) = (self.family.flows.bytes(), Vec::new());
        map.walk(BATCH, |key, _| {
            if !moved.contains(key) {
                gone.push(key.to_vec());
            }
        })?;
        for key in gone {
            if from.flows.bytes().get(&key)?.is_none() {
                map.remove(&key)?;
            }
        }
        Ok(())
    }
}

/// What an entry becomes by what the other generation has noted in its own of the
/// same flow; None if it knows all that.
fn later<A: Address>(noted: &Entry<A>, there: &Entry<A>) -> Option<Entry<A>>
where
    Entry<A>: PartialEq,
{
    let is_same = (noted.endpoint, noted.created) == (there.endpoint, there.created);
    if !is_same || noted.seen.wrapping_sub(there.seen).cast_signed() < 0 {
        return None;
    }
    let ahead = noted.sequence.wrapping_sub(there.sequence).cast_signed() > 0;
    let sequence = if ahead { noted.sequence } else { there.sequence };
    let state = there.state | noted.state;
    let merged = Entry { state, sequence, seen: noted.seen, ..*there };
    (merged != *there).then_some(merged)
}

#[cfg(test)]
mod tests {
    use probe_common::flow::{FIN_CLIENT, FORWARD, Facts, SYNCED};

    use super::*;

    const KEY: Tuple<V4> =
        Tuple { src: V4(1), dst: V4(2), sport: 3, dport: 4, protocol: TCP, zero: [0; 3] };
    const TO: Tuple<V4> = Tuple { dst: V4(5), ..KEY };
    const FACTS: Facts = Facts {
        endpoint: 7,
        subset: 3,
        state: SYNCED,
        direction: FORWARD,
        seen: 9,
        created: 8,
        sequence: 6,
    };

    #[test]
    fn what_the_other_generation_noted_last_is_added() {
        let there = Entry::new(&KEY, &TO, &FACTS);
        assert_eq!(later(&there, &there), None, "nothing new");
        let noted = Entry { state: ESTABLISHED | FIN_CLIENT, sequence: 70, seen: 10, ..there };
        let merged = later(&noted, &there).unwrap();
        assert_eq!(merged.state, SYNCED | ESTABLISHED | FIN_CLIENT);
        assert_eq!((merged.sequence, merged.seen), (70, 10));
        let behind = Entry { sequence: u32::MAX - 5, seen: 9, ..there };
        assert_eq!(later(&behind, &there), None, "a number that is behind");
        let older = Entry { state: FIN_CLIENT, seen: 8, ..there };
        assert_eq!(later(&older, &there), None, "the flow went on here");
        let other = Entry { created: 9, state: FIN_CLIENT, ..there };
        assert_eq!(later(&other, &there), None, "another flow of the same client's port");
    }

    #[test]
    fn handshakes_wait_for_the_other_side() {
        let new_flow = |state, protocol| {
            let (key, to) = (Tuple { protocol, ..KEY }, Tuple { protocol, ..TO });
            let mut new_flow = NewFlow::new(&key, &to.reversed(), &FACTS);
            new_flow.state = state;
            new_flow
        };
        for (what, flow, expected) in [
            ("a SYN", new_flow(0, TCP), true),
            ("answered", new_flow(probe_common::flow::ANSWERED, TCP), true),
            ("established", new_flow(ESTABLISHED, TCP), false),
            ("adopted", new_flow(ADOPTED, TCP), false),
            ("refused", new_flow(RESET, TCP), false),
            ("a datagram", new_flow(0, probe_common::parse::UDP), false),
        ] {
            assert_eq!(is_handshake(&flow), expected, "{what}");
        }
    }
}
