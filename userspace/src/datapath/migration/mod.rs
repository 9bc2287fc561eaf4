//! From one generation of programs and maps to another one, under traffic: another
//! layout, or other sizes. How, and why nothing is lost: docs/design/upgrade.md.

mod compare;
mod content;
mod counters;
mod error;
mod flows;
mod generation;
mod layout;
mod opened;
mod seven;
mod tables;

use std::time::{Duration, Instant};

use probe_common::map::{
    ABI_VERSION, Meta, STAGE_BEGINS_HERE, STAGE_BEGINS_THERE, STAGE_OTHER, STAGE_OWN,
};
use tracing::{info, warn};

use super::hooks::replace_all;
use super::object::{COUNTERS, Object, Role, meta};
use super::{Pins, Settings, renamed};

use counters::Mover;
use error::During as _;
use flows::{Found, Pass, Tables};
use generation::{Generation, Stage, connect};
use opened::Opened;
use tables::Needed;

pub(super) use compare::difference;
pub use error::MigrationError;

/// For so long handshakes are waited for that are under way when a generation
/// begins no more flows. One that takes longer is begun anew by the client's next SYN.
const HANDSHAKES: Duration = Duration::from_secs(2);
/// How often is looked meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// Passes over all flows, at most, before the other generation begins them.
const PASSES: usize = 3;

/// Moves what lives in the pinned maps to new ones, and the programs on all
/// interfaces with it. If that fails before the new maps have flows of their own, the programs
/// that were there go on; after that, it is gone on with at the next start.
pub(super) fn upgrade(
    settings: &Settings,
    pins: &Pins,
    found: &Meta,
    difference: &str,
) -> Result<Object, MigrationError> {
    let former = Generation::found(found, settings, pins.maps())?;
    let next = Generation::new(ABI_VERSION, *settings, pins.next())?;
    info!("the pinned maps differ ({difference}): live flows move to new ones");
    let flows = Tables::at(&former.maps, &former.layout)?.count()?;
    Needed::of(&former.maps)?.check(settings, flows)?;
    if let Err(error) = prepare(pins, &former, &next) {
        if let Err(error) = take_back(pins, &former) {
            warn!("{error}");
        }
        return Err(error);
    }
    finish(pins, &former, &next)
}

/// Until all packets come to the new programs, which hand them to those that were
/// there, and all flows are in both tables.
fn prepare(pins: &Pins, former: &Generation, next: &Generation) -> Result<(), MigrationError> {
    let mut other = former.load(Role::Ordinary)?;
    pins.make_next().during("make room for new maps")?;
    let shared = next.share(former)?;
    let mut object = next.load(Role::Transitional)?;
    next.copy(former, &shared)?;
    connect(&mut object, &mut other)?;
    stage(next)?.set(STAGE_OTHER)?;
    next.complete(&mut object)?;
    let begun = Instant::now();
    replace_all(&mut object, pins).during("attach the programs")?;
    let moved = if shared.iter().any(|name| name == "FLOWS_V4") {
        Found::default()
    } else {
        fill(former, next)?
    };
    info!(
        "{} flows copied in {:?}; {} maps serve as they are",
        moved.copied,
        begun.elapsed(),
        shared.len()
    );
    Ok(())
}

/// Copies flows to tables that nobody else writes.
fn fill(from: &Generation, to: &Generation) -> Result<Found, MigrationError> {
    let (from, to) = (Tables::at(&from.maps, &from.layout)?, Tables::at(&to.maps, &to.layout)?);
    let mut found = from.copy(&to, Pass::Fill)?;
    for _ in 1..PASSES {
        let begun = Instant::now();
        found = from.copy(&to, Pass::Replace)?;
        if begun.elapsed() < LOOK {
            break;
        }
    }
    Ok(found)
}

fn stage(of: &Generation) -> Result<Stage, MigrationError> {
    let missing = || std::io::Error::other("it is not pinned");
    Stage::at(&of.maps)?.ok_or_else(missing).during("open the map STAGE")
}

/// Whether the generations have their flows in the same maps.
fn have_same_flows(one: &Generation, other: &Generation) -> Result<bool, MigrationError> {
    let id = |of: &Generation| Opened::at(&of.maps.join("FLOWS_V4"))?.id();
    Ok(id(one)? == id(other)?)
}

/// Copies what the generation that begins no more flows still learns of its own,
/// until no handshake of it is under way.
fn catch_up(from: &Generation, to: &Generation) -> Result<(), MigrationError> {
    if have_same_flows(from, to)? {
        return Ok(());
    }
    let (from, to) = (Tables::at(&from.maps, &from.layout)?, Tables::at(&to.maps, &to.layout)?);
    let end = Instant::now() + HANDSHAKES;
    while from.copy(&to, Pass::Add)?.handshakes > 0 && Instant::now() < end {
        std::thread::sleep(LOOK);
    }
    from.copy(&to, Pass::Add)?;
    Ok(())
}

/// From where flows begin in the new tables.
fn finish(pins: &Pins, former: &Generation, next: &Generation) -> Result<Object, MigrationError> {
    let mut stage = stage(next)?;
    if stage.get()? != STAGE_OWN {
        stage.set(STAGE_BEGINS_HERE)?;
        catch_up(former, next)?;
        stage.set(STAGE_OWN)?;
        if !have_same_flows(former, next)? {
            let (from, to) = (&former, &next);
            let from = Tables::at(&from.maps, &from.layout)?;
            from.copy(&Tables::at(&to.maps, &to.layout)?, Pass::Add)?;
        }
    }
    move_counters(former, next)?;
    let mut object = next.load(Role::Ordinary)?;
    next.complete(&mut object)?;
    replace_all(&mut object, pins).during("attach the programs")?;
    for name in ["STAGE", "OTHER_TC", "OTHER_XDP"] {
        std::fs::remove_file(next.maps.join(name)).during("remove what was needed meanwhile")?;
    }
    pins.promote_next().during("put the new maps in place")?;
    info!("live flows are in the new maps; the former ones are gone");
    Ok(object)
}

/// Moves the counters of maps that are not the same.
fn move_counters(from: &Generation, to: &Generation) -> Result<(), MigrationError> {
    let differs = |name: &str| -> Result<bool, MigrationError> {
        // What one of the two does not have, there is nothing to move of.
        if [from, to].iter().any(|of| !of.maps.join(name).exists()) {
            return Ok(false);
        }
        let id = |of: &Generation| Opened::at(&of.maps.join(name))?.id();
        Ok(id(from)? != id(to)?)
    };
    let mut moved = Vec::new();
    for name in COUNTERS {
        if differs(name)? {
            moved.push(name);
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    let mut object = Object::load_transfer(&to.settings, &to.maps).during("load the programs")?;
    let mut mover = Mover { maps: &from.maps, object: &mut object };
    for name in moved {
        if name == "REASONS" && !from.knows_reasons {
            warn!("reasons are counted from 0 again: it is not known what was counted before");
        } else {
            mover.all(name, &from.layout, &to.layout)?;
        }
    }
    Ok(())
}

/// Has the programs that were there go on as before.
fn take_back(pins: &Pins, former: &Generation) -> Result<(), MigrationError> {
    let mut object = former.load(Role::Ordinary)?;
    replace_all(&mut object, pins).during("put the programs back")?;
    pins.remove_next().during("remove the new maps")
}

/// Goes on with what was interrupted: ends it if the new maps have flows of their
/// own, else takes it back.
pub(super) fn resume(settings: &Settings, pins: &Pins) -> Result<(), MigrationError> {
    if !pins.are_in_transition() {
        return Ok(());
    }
    if !pins.are_there() || !pins.next().exists() {
        return pins.promote_next().during("put the new maps in place");
    }
    let found = meta(&pins.map("META")).during("read META")?;
    let former = Generation::found(&found, settings, pins.maps())?;
    if let Some(stage) = Stage::at(&former.maps)?
        && stage.get()? != STAGE_OWN
    {
        let layout = meta(&pins.next().join("META")).during("read META")?.abi_version;
        return Err(MigrationError::Interrupted { layout });
    }
    let begun = match Stage::at(&pins.next())? {
        Some(stage) => stage.get()?,
        // There was no programs yet that could have jumped.
        None => STAGE_OTHER,
    };
    let complete = meta(&pins.next().join("META")).is_ok_and(|found| found.abi_version != 0);
    if !complete || ![STAGE_OWN, STAGE_BEGINS_HERE].contains(&begun) {
        warn!("a move of live flows was interrupted: it is taken back");
        return take_back(pins, &former);
    }
    info!("a move of live flows was interrupted: going on");
    let made = meta(&pins.next().join("META")).during("read META")?;
    let next = Generation::found(&made, settings, pins.next())?;
    finish(pins, &former, &next).map(drop)
}

/// Moves what lives to maps of an earlier layout, with its programs, so that the
/// build before this one finds what it left. No agent may run meanwhile.
/// False if they have that layout already.
pub fn downgrade(settings: &Settings, pins: &Pins, layout: u32) -> Result<bool, MigrationError> {
    let found = meta(&pins.map("META")).during("read META")?;
    if found.abi_version == layout {
        return Ok(false);
    }
    renamed::rename(pins).during("rename pinned maps")?;
    let current = Generation::found(&found, settings, pins.maps())?;
    let earlier = Generation::new(layout, current.settings, pins.next())?;
    let begun = match Stage::at(&current.maps)? {
        Some(stage) => stage.get()?,
        None => STAGE_OWN,
    };
    let mut object = if begun == STAGE_OWN {
        give_back(pins, &current, &earlier)?
    } else {
        earlier.load(Role::Ordinary)?
    };
    let mut stage = stage(&current)?;
    if stage.get()? != STAGE_OTHER {
        stage.set(STAGE_BEGINS_THERE)?;
        catch_up(&current, &earlier)?;
        stage.set(STAGE_OTHER)?;
        let from = Tables::at(&current.maps, &current.layout)?;
        from.copy(&Tables::at(&earlier.maps, &earlier.layout)?, Pass::Add)?;
    }
    move_counters(&current, &earlier)?;
    earlier.complete(&mut object)?;
    replace_all(&mut object, pins).during("attach the programs")?;
    pins.promote_next().during("put the maps in place")?;
    Ok(true)
}

/// Until all packets come to programs that can hand them to the earlier ones, and
/// all flows are in both tables.
fn give_back(
    pins: &Pins,
    current: &Generation,
    earlier: &Generation,
) -> Result<Object, MigrationError> {
    pins.make_next().during("make room for maps")?;
    let shared = earlier.share(current)?;
    let mut other = earlier.load(Role::Ordinary)?;
    earlier.copy(current, &shared)?;
    let mut object = current.load(Role::Transitional)?;
    connect(&mut object, &mut other)?;
    replace_all(&mut object, pins).during("attach the programs")?;
    fill(current, earlier)?;
    Ok(other)
}
