//! Reads nftables' rules.

use std::io;

use super::message;
use super::ruleset::{Builder, Ruleset};
use crate::netlink::Netlink;

/// How often is read anew what changes while it is read.
const ATTEMPTS: usize = 3;

/// All rules of the socket's network namespace, as they were at one moment, and how many changes
/// there had been.
///
/// # Errors
///
/// If the kernel does not answer, if what it says is not understood, or if rules change faster
/// than they can be read.
pub fn read(netlink: &mut Netlink) -> io::Result<(u32, Ruleset)> {
    for _ in 0..ATTEMPTS {
        let before = generation(netlink)?;
        // What is gone in the middle of it is an error, which is one of a list that changed.
        let ruleset = read_once(netlink);
        if generation(netlink)? == before {
            return ruleset.map(|ruleset| (before, ruleset));
        }
    }
    Err(io::Error::other("nftables' rules change faster than they can be read"))
}

/// How many changes of nftables there have been, as a number that wraps around.
///
/// # Errors
///
/// If the kernel does not answer.
pub fn generation(netlink: &mut Netlink) -> io::Result<u32> {
    let answer = netlink.ask(message::GET_GENERATION, &message::ALL)?;
    message::generation(&answer).ok_or_else(|| malformed("generation"))
}

fn malformed(what: &str) -> io::Error {
    io::Error::other(format!("the kernel's message about a {what} of nftables is not understood"))
}

fn read_once(netlink: &mut Netlink) -> io::Result<Ruleset> {
    let mut builder = Builder::default();
    for found in netlink.list(message::GET_TABLES, &message::ALL)? {
        builder.table(message::table(&found).ok_or_else(|| malformed("table"))?);
    }
    for found in netlink.list(message::GET_CHAINS, &message::ALL)? {
        let chain = message::chain(&found).and_then(|(place, chain)| builder.chain(place, chain));
        chain.ok_or_else(|| malformed("chain"))?;
    }
    for found in netlink.list(message::GET_RULES, &message::ALL)? {
        let rule = message::rule(&found)
            .and_then(|(place, chain, rule)| builder.rule(place, &chain, rule));
        rule.ok_or_else(|| malformed("rule"))?;
    }
    for found in netlink.list(message::GET_SETS, &message::ALL)? {
        let (place, name, kind) = message::set(&found).ok_or_else(|| malformed("set"))?;
        let mut elements = Vec::new();
        for found in netlink.list(message::GET_ELEMENTS, &message::elements_of(&place, &name))? {
            elements.extend(message::elements(&found).ok_or_else(|| malformed("set's element"))?);
        }
        builder.set(place, name, kind, elements).ok_or_else(|| malformed("set"))?;
    }
    for found in netlink.list(message::GET_FLOWTABLES, &message::ALL)? {
        builder.flowtable(message::flowtable(&found).ok_or_else(|| malformed("flowtable"))?);
    }
    Ok(builder.finish())
}
