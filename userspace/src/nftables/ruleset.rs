//! The rules of a network namespace, as they are in the kernel.

use std::collections::{HashMap, HashSet};

use super::expression::{Expression, Verdict};
use super::family::Family;
use super::set::{Element, Set, SetKind};

/// Tables, chains, rules and sets of nftables.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Its tables.
    pub tables: Vec<Table>,
    /// Flowtables, by table and name: what they know goes past all chains.
    pub flowtables: Vec<String>,
}

/// A table, with what is in it.
#[derive(Debug)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its chains are at no hooks now.
    pub is_dormant: bool,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its sets, by name.
    pub sets: HashMap<String, Set>,
    /// Where in `chains` a chain is, by name.
    numbers: HashMap<String, usize>,
}

/// A chain.
#[derive(Debug)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets come to it; None of one that others have to call.
    pub hook: Option<Hook>,
    /// Its rules, in their order.
    pub rules: Vec<Rule>,
}

/// The hook of a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `NF_INET_PRE_ROUTING` and the like.
    pub point: u32,
    /// Chains of a lower one see packets first.
    pub priority: i32,
    /// "filter", "nat", "route".
    pub kind: String,
    /// What becomes of packets that no rule has a verdict for.
    pub policy: Verdict,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its number in the table.
    pub handle: u64,
    /// Its steps.
    pub expressions: Vec<Expression>,
}

impl Table {
    /// One without chains.
    pub fn new(family: Family, name: String, is_dormant: bool) -> Self {
        let (chains, sets, numbers) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { family, name, is_dormant, chains, sets, numbers }
    }

    /// Takes a chain.
    pub fn add_chain(&mut self, chain: Chain) {
        self.numbers.insert(chain.name.clone(), self.chains.len());
        self.chains.push(chain);
    }

    /// Where in [`Table::chains`] the chain of that name is.
    pub fn number(&self, chain: &str) -> Option<usize> {
        self.numbers.get(chain).copied()
    }
}

/// What the kernel lists, each by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The table's family.
    pub family: Family,
    /// The table.
    pub table: String,
}

/// Puts together what the kernel lists one kind after the other.
#[derive(Debug, Default)]
pub struct Builder {
    ruleset: Ruleset,
    tables: HashMap<(Family, String), usize>,
}

impl Builder {
    /// Takes a table.
    pub fn table(&mut self, table: Table) {
        let number = self.ruleset.tables.len();
        self.tables.insert((table.family, table.name.clone()), number);
        self.ruleset.tables.push(table);
    }

    fn at(&mut self, place: Place) -> Option<&mut Table> {
        let number = *self.tables.get(&(place.family, place.table))?;
        self.ruleset.tables.get_mut(number)
    }

    /// Takes a chain. None, here and below, if what it belongs to is missing.
    pub fn chain(&mut self, place: Place, chain: Chain) -> Option<()> {
        self.at(place)?.add_chain(chain);
        Some(())
    }

    /// Takes the last rule of a chain.
    pub fn rule(&mut self, place: Place, chain: &str, rule: Rule) -> Option<()> {
        let table = self.at(place)?;
        let number = table.number(chain)?;
        table.chains[number].rules.push(rule);
        Some(())
    }

    /// Takes a set, with its elements.
    pub fn set(
        &mut self,
        place: Place,
        name: String,
        kind: SetKind,
        elements: Vec<Element>,
    ) -> Option<()> {
        self.at(place)?.sets.insert(name, Set::new(kind, elements));
        Some(())
    }

    /// Takes a flowtable.
    pub fn flowtable(&mut self, name: String) {
        self.ruleset.flowtables.push(name);
    }

    /// All together.
    pub fn finish(mut self) -> Ruleset {
        for table in &mut self.ruleset.tables {
            // Kernels take elements from packets for sets that do not say so, too.
            let rules = table.chains.iter().flat_map(|chain| &chain.rules);
            let changed: HashSet<String> = rules
                .flat_map(|rule| &rule.expressions)
                .filter_map(|expression| match expression {
                    Expression::Effect { set, .. } => set.clone(),
                    _ => None,
                })
                .collect();
            for name in changed {
                if let Some(set) = table.sets.get_mut(&name) {
                    set.become_volatile();
                }
            }
        }
        self.ruleset
    }
}
