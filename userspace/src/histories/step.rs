//! What happens in a history: drawn without knowledge of the cluster, so that any
//! part of a history is a history as well, and a failing one can be shortened.

use proptest::prelude::*;

use super::agent::Course;
use super::cluster::{Cluster, FORMS, NAMES, PODS, PORTS, Pod, SCHEMES, SITES, VERSIONS};

/// A change of a site, or of two.
#[derive(Debug, Clone)]
pub enum Edit {
    Form(usize),
    Ports(usize),
    Pod(usize, Option<Pod>),
    Scheme(usize),
    Weights([u8; VERSIONS]),
    Routed([bool; VERSIONS]),
    Rename(usize),
    ExchangeNames(usize),
    Move(u8),
    ExchangeAddresses(usize),
    Drain(u64),
    Share(bool),
    Apply(bool),
    Beside(Option<usize>),
    Layout(u8),
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It is no YAML.
    Text,
    /// Its first document has a field that there is not.
    Document,
}

#[derive(Debug, Clone)]
pub enum Step {
    /// Sites change, all at once where they are in files.
    Change(Vec<(usize, Edit)>, Course),
    /// Connections to anything that is in force, chosen by these numbers.
    Open(Vec<u16>),
    /// Connections end.
    End(Vec<u16>),
    Pass(u64),
    /// The flows of endpoints that left are deleted.
    Sweep,
    Grace,
    Restart,
    /// Somebody overrides weights.
    Weigh(u16, [u8; VERSIONS]),
    /// Something in files is wrong for a while, in which the agent may start again.
    Break(Fault, usize, bool),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 2..28)
}

fn step() -> impl Strategy<Value = Step> {
    let course = prop_oneof![
        8 => Just(Course::Done),
        1 => Just(Course::TakenBack),
        1 => (0..40usize).prop_map(Course::Killed),
    ];
    let edits = proptest::collection::vec((0..SITES, edit()), 1..4);
    let fault = prop_oneof![Just(Fault::Text), Just(Fault::Document)];
    let some = || proptest::collection::vec(any::<u16>(), 1..6);
    prop_oneof![
        8 => (edits, course).prop_map(|(edits, course)| Step::Change(edits, course)),
        5 => some().prop_map(Step::Open),
        1 => some().prop_map(Step::End),
        3 => prop_oneof![0..40u64, 200..400u64].prop_map(Step::Pass),
        1 => Just(Step::Sweep),
        1 => Just(Step::Grace),
        1 => Just(Step::Restart),
        1 => (any::<u16>(), any::<[u8; VERSIONS]>()).prop_map(|(at, w)| Step::Weigh(at, w)),
        1 => (fault, 0..3usize, any::<bool>()).prop_map(|(f, file, new)| Step::Break(f, file, new)),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let pod = (0..VERSIONS, proptest::bool::weighted(0.9));
    let pod =
        proptest::option::weighted(0.7, pod.prop_map(|(version, ready)| Pod { version, ready }));
    prop_oneof![
        4 => (0..FORMS.len()).prop_map(Edit::Form),
        2 => (0..PORTS.len()).prop_map(Edit::Ports),
        5 => (0..PODS, pod).prop_map(|(at, pod)| Edit::Pod(at, pod)),
        2 => (0..SCHEMES.len()).prop_map(Edit::Scheme),
        1 => [0..4u8, 0..4u8, 0..4u8].prop_map(Edit::Weights),
        2 => any::<[bool; VERSIONS]>().prop_map(Edit::Routed),
        2 => (0..NAMES.len()).prop_map(Edit::Rename),
        1 => (0..SITES).prop_map(Edit::ExchangeNames),
        1 => (1..6u8).prop_map(Edit::Move),
        1 => (0..SITES).prop_map(Edit::ExchangeAddresses),
        1 => (1..60u64).prop_map(Edit::Drain),
        1 => any::<bool>().prop_map(Edit::Share),
        1 => any::<bool>().prop_map(Edit::Apply),
        1 => proptest::option::of(0..SITES).prop_map(Edit::Beside),
        1 => any::<u8>().prop_map(Edit::Layout),
    ]
}

impl Fault {
    /// Puts it into the text of a file.
    pub fn spoil(self, text: &mut String) {
        match self {
            Self::Text => "\n---\n[".clone_into(text),
            Self::Document => {
                *text = text.replacen("metadata: {", "metadata: {mistaken: true, ", 1);
            }
        }
    }
}

impl Edit {
    /// Makes the change, if it can be: names and addresses are of one site only.
    pub fn make(&self, cluster: &mut Cluster, at: usize) {
        let names: Vec<usize> = cluster.sites.iter().map(|site| site.name).collect();
        let vips: Vec<u8> = cluster.sites.iter().map(|site| site.vip).collect();
        let site = &mut cluster.sites[at];
        match *self {
            Self::Form(form) => site.form = FORMS[form],
            Self::Ports(ports) => site.ports = ports,
            Self::Pod(n, pod) => site.pods[n] = pod,
            Self::Scheme(scheme) => site.scheme = scheme,
            Self::Weights(weights) => site.weights = weights,
            Self::Routed(routed) => site.routed = routed,
            Self::Rename(name) if !names.contains(&name) => site.name = name,
            Self::Move(vip) if !vips.contains(&vip) => site.vip = vip,
            Self::Rename(_) | Self::Move(_) => {}
            Self::ExchangeNames(other) => {
                (cluster.sites[at].name, cluster.sites[other].name) = (names[other], names[at]);
            }
            Self::ExchangeAddresses(other) => {
                (cluster.sites[at].vip, cluster.sites[other].vip) = (vips[other], vips[at]);
            }
            Self::Drain(seconds) => site.drain = seconds,
            Self::Share(shared) => site.shared = shared,
            Self::Apply(applied) => site.applied = applied,
            Self::Beside(other) => site.beside = other,
            Self::Layout(layout) => cluster.layout = layout,
        }
    }
}
