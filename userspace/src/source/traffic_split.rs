//! weir's own TrafficSplit, right by itself: what it leads to may be for other documents to say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::model::{Name, ServiceAddress, Split, SplitSettings, Subset};

/// A TrafficSplit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrafficSplit {
    /// That of its split, unless it is named by a Service.
    pub name: Name,
    /// What is divided.
    pub divided: Divided,
    /// What it is set to.
    pub settings: SplitSettings,
    /// Among what, in the order in which they were written; their names are unique.
    pub subsets: Vec<WrittenSubset>,
}

/// What is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Divided {
    /// Connections to a service address that it names itself.
    Address(ServiceAddress),
    /// Those to a Service's port, of its namespace.
    Service(ServiceRef),
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceRef {
    /// The Service, in the namespace of who refers to it.
    pub name: String,
    /// The port that clients connect to.
    pub port: u16,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenSubset {
    /// Its name.
    pub name: Name,
    /// Its weight.
    pub weight: u32,
    /// Who its endpoints are.
    pub backing: Backing,
}

/// Who the endpoints of a subset are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backing {
    /// These.
    Endpoints(BTreeSet<SocketAddr>),
    /// Those of another Service's port.
    Service(ServiceRef),
    /// Those of the divided Service whose Pods have these labels.
    Labels(BTreeMap<String, String>),
}

impl TrafficSplit {
    /// The split that it says all of by itself; None if other documents are needed.
    pub fn whole(&self) -> Option<Split> {
        let Divided::Address(address) = self.divided else { return None };
        let subset = |WrittenSubset { name, weight, backing }: &WrittenSubset| match backing {
            Backing::Endpoints(endpoints) => {
                Some(Subset { name: name.clone(), weight: *weight, endpoints: endpoints.clone() })
            }
            Backing::Service(_) | Backing::Labels(_) => None,
        };
        let subsets = self.subsets.iter().map(subset).collect::<Option<Vec<_>>>()?;
        // What makes no split was rejected when the document was read.
        Split::new(self.name.clone(), address, self.settings, subsets).ok()
    }
}
