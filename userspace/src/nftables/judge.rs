//! Whether rules matter to packets of a class.

use std::collections::HashMap;
use std::fmt;

use super::class::{Class, State};
use super::expression::Verdict;
use super::family::Family;
use super::machine::{Deed, Spot, run};
use super::registers::Registers;
use super::ruleset::{Chain, Hook, Rule, Ruleset};
use super::text;

/// How many chains a packet may be on its way back through; the kernel's own limit.
const DEPTH: usize = 16;

/// What may do something with packets, or see them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Objection {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle; None of the chain's policy, or of the chain itself.
    pub handle: Option<u64>,
    /// The rule's text, and what of it matters.
    pub text: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, handle, text } = self;
        match handle {
            Some(handle) => write!(f, "rule {handle} of {family} {table} {chain}: {text}"),
            None => write!(f, "{family} {table} {chain}: {text}"),
        }
    }
}

/// Judges one ruleset, for many classes.
#[derive(Debug)]
pub struct Judge<'a> {
    ruleset: &'a Ruleset,
    /// How many steps may still be taken.
    patience: usize,
}

/// What becomes of packets in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fates {
    /// Some come back, to the chain that called it.
    come_back: bool,
}

impl<'a> Judge<'a> {
    /// Gives up after so many steps: what takes too long is not harmless.
    pub fn new(ruleset: &'a Ruleset, patience: usize) -> Self {
        Self { ruleset, patience }
    }

    /// Whether it has given up.
    pub fn is_exhausted(&self) -> bool {
        self.patience == 0
    }

    /// The first thing that may matter to packets of the class; None if nothing does: whether
    /// these rules are there makes no difference to where such packets go and what is in them,
    /// nor to anything that somebody could ask for afterwards, but for counters of rules.
    pub fn objection(&mut self, class: &Class) -> Option<Objection> {
        let ruleset = self.ruleset;
        for table in &ruleset.tables {
            let is_met = |family| family == class.family || family == Family::INET;
            let seen = match table.family {
                Family::IPV4 | Family::IPV6 | Family::INET => is_met(table.family),
                Family::ARP | Family::BRIDGE => false,
                _ => true,
            };
            if !seen || table.is_dormant {
                continue;
            }
            for chain in &table.chains {
                let Some(hook) = &chain.hook else { continue };
                if !meets(table.family, hook, class) {
                    continue;
                }
                let is_tracked = is_tracked(table.family, hook);
                let mut walk = Walk {
                    spot: Spot { class, table, is_tracked },
                    known: HashMap::new(),
                    registers: Registers::new(),
                    patience: &mut self.patience,
                };
                if let Err(objection) = walk.base(chain, hook) {
                    return Some(objection);
                }
            }
        }
        None
    }
}

/// Whether packets of the class come to that hook's chains.
fn meets(family: Family, hook: &Hook, class: &Class) -> bool {
    // Chains that translate are asked about the first packet of a flow alone.
    let translates = hook.kind == "nat" && family != Family::NETDEV;
    family.sees_forwarded(hook.point) && !(translates && class.state == State::Established)
}

/// Whether connection tracking has seen packets that come to that hook.
fn is_tracked(family: Family, hook: &Hook) -> bool {
    const PREROUTING: u32 = 0;
    const FORWARD: u32 = 2;
    const POSTROUTING: u32 = 4;
    /// NF_IP_PRI_CONNTRACK.
    const CONNTRACK: i32 = -200;
    match hook.point {
        _ if family == Family::NETDEV => false,
        PREROUTING => hook.priority > CONNTRACK,
        FORWARD | POSTROUTING => true,
        _ => false,
    }
}

/// The way through a base chain.
struct Walk<'a, 'b> {
    spot: Spot<'a>,
    /// What chains do, by their number: it is always the same. None while it is looked for.
    known: HashMap<usize, Option<Fates>>,
    registers: Registers,
    patience: &'b mut usize,
}

impl<'a> Walk<'a, '_> {
    fn base(&mut self, chain: &'a Chain, hook: &Hook) -> Result<(), Objection> {
        const FAMILIES: [Family; 4] = [Family::INET, Family::IPV4, Family::IPV6, Family::NETDEV];
        const KINDS: [&str; 3] = ["filter", "nat", "route"];
        let (family, point) = (self.spot.table.family, hook.point);
        let is_point = if family == Family::NETDEV { point < 2 } else { point < 6 };
        if !FAMILIES.contains(&family) || !is_point || !KINDS.contains(&hook.kind.as_str()) {
            let text = format!("a {} chain at {}", hook.kind, family.point_name(point));
            return Err(self.of_chain(chain, text));
        }
        let fates = self.chain(chain, 0)?;
        match &hook.policy {
            Verdict::Accept => Ok(()),
            _ if !fates.come_back => Ok(()),
            Verdict::Drop => Err(self.of_chain(chain, "policy drop".to_owned())),
            _ => Err(self.of_chain(chain, "a policy that is not known".to_owned())),
        }
    }

    fn of_chain(&self, chain: &Chain, text: String) -> Objection {
        let table = self.spot.table;
        let (family, chain) = (table.family, chain.name.clone());
        Objection { family, table: table.name.clone(), chain, handle: None, text }
    }

    fn of_rule(&self, chain: &Chain, rule: &Rule, what: &str) -> Objection {
        let text = format!("{} ({what})", text::of(rule, self.spot.table.family));
        Objection { handle: Some(rule.handle), ..self.of_chain(chain, text) }
    }

    fn chain(&mut self, chain: &'a Chain, depth: usize) -> Result<Fates, Objection> {
        let mut fates = Fates::default();
        for rule in &chain.rules {
            let mut effort = 1;
            let deed = run(rule, self.spot, &mut self.registers, &mut effort);
            *self.patience = self.patience.saturating_sub(effort);
            if *self.patience == 0 {
                return Err(self.of_rule(chain, rule, "there are too many rules to be judged"));
            }
            let (verdicts, mut goes_on) = match deed {
                Deed::Verdicts { verdicts, goes_on } => (verdicts, goes_on),
                Deed::Matters(what) => return Err(self.of_rule(chain, rule, &what)),
            };
            for verdict in verdicts {
                match verdict {
                    Verdict::Accept => {}
                    Verdict::Return => fates.come_back = true,
                    Verdict::Continue | Verdict::Break => goes_on = true,
                    Verdict::Jump(name) => {
                        goes_on |= self.called(chain, rule, name, depth)?.come_back;
                    }
                    Verdict::Goto(name) => {
                        fates.come_back |= self.called(chain, rule, name, depth)?.come_back;
                    }
                    Verdict::Drop => return Err(self.of_rule(chain, rule, "drop")),
                    Verdict::Other(_) => {
                        return Err(self.of_rule(chain, rule, "a verdict that is not known"));
                    }
                }
            }
            if !goes_on {
                return Ok(fates);
            }
        }
        Ok(Fates { come_back: true })
    }

    /// What becomes of packets in a chain that a rule calls.
    fn called(
        &mut self,
        from: &Chain,
        rule: &Rule,
        name: &str,
        depth: usize,
    ) -> Result<Fates, Objection> {
        let table = self.spot.table;
        let Some(number) = table.number(name) else {
            return Err(self.of_rule(from, rule, "a chain that is not there"));
        };
        match self.known.get(&number) {
            Some(Some(fates)) => return Ok(*fates),
            Some(None) => return Err(self.of_rule(from, rule, "chains that call each other")),
            None if depth == DEPTH => {
                return Err(self.of_rule(from, rule, "chains that call too many others"));
            }
            None => {}
        }
        self.known.insert(number, None);
        let fates = self.chain(&table.chains[number], depth + 1)?;
        self.known.insert(number, Some(fates));
        Ok(fates)
    }
}
