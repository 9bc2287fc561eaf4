//! Names of services: what Istio calls hosts.

use std::fmt;
use std::net::IpAddr;

use crate::model::Name;

/// What follows SERVICE.NAMESPACE in the full name of a Kubernetes Service.
const DOMAIN: &str = ".svc.cluster.local";

/// The full name of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Host(String);

impl Host {
    /// That of a Kubernetes Service.
    pub(super) fn of_service(namespace: &str, name: &str) -> Self {
        Self(format!("{name}.{namespace}{DOMAIN}"))
    }

    /// A name without dots is of `namespace`; any other is taken as it is, in lower case and
    /// without a dot at its end: DNS knows no difference (RFC 4343, RFC 1034 section 3.1).
    pub(super) fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        if text.starts_with('*') {
            return Err(format!("\"{text}\" has a wildcard, expected the name of one service"));
        }
        let lower = text.to_ascii_lowercase();
        let plain = lower.strip_suffix('.').unwrap_or(&lower);
        Name::of_object(plain).map_err(|error| error.to_string())?;
        let full = Self::of_service(namespace, plain);
        Ok(if lower.contains('.') { Self(plain.to_owned()) } else { full })
    }

    /// As splits are named: SERVICE.NAMESPACE, or the whole of a name that is none of a cluster.
    pub(super) fn short(&self) -> &str {
        self.0.strip_suffix(DOMAIN).unwrap_or(&self.0)
    }

    /// The name without its namespace, or the whole of a name that is none of a cluster.
    pub(super) fn service(&self) -> &str {
        match self.0.strip_suffix(DOMAIN).and_then(|short| short.split_once('.')) {
            Some((service, _)) => service,
            None => &self.0,
        }
    }

    /// The whole name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// An address in place of a name, which no service has.
    pub(super) fn of_address(ip: IpAddr) -> Self {
        Self(ip.to_string())
    }

    /// Whether it is an address.
    pub(super) fn is_address(&self) -> bool {
        self.0.parse::<IpAddr>().is_ok()
    }

    /// Whether it is a name of the cluster's domain.
    pub(super) fn is_of_cluster(&self) -> bool {
        self.0.ends_with(DOMAIN)
    }

    /// The full name that was perhaps meant by one that Istio does not take for a short one.
    pub(super) fn meant(&self) -> Option<Self> {
        let text = self.0.strip_suffix(".svc").unwrap_or(&self.0);
        let (service, namespace) = text.split_once('.')?;
        (!namespace.contains('.')).then(|| Self::of_service(namespace, service))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which services a VirtualService is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// One.
    Exact(Host),
    /// Those whose name ends so, the dot included: `*.SUFFIX`; all of them if it is empty: `*`.
    Ending(String),
}

impl Pattern {
    pub(super) fn parse(text: &str, namespace: &str) -> Result<Self, String> {
        match text.strip_prefix('*') {
            None => Host::parse(text, namespace).map(Self::Exact),
            Some("") => Ok(Self::Ending(String::new())),
            Some(ending) => match ending.strip_prefix('.').map(Name::of_object) {
                Some(Ok(_)) => Ok(Self::Ending(ending.to_owned())),
                _ => Err(format!(
                    "\"{text}\" is not a host, expected a DNS name, \"*.NAME\" or \"*\""
                )),
            },
        }
    }

    /// Whether some host fits both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ending(one), Self::Ending(other)) => {
                one.ends_with(other.as_str()) || other.ends_with(one.as_str())
            }
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => {
                pattern.fits(host).is_some()
            }
        }
    }

    /// How closely it fits, more being closer; None if it does not.
    pub(super) fn fits(&self, host: &Host) -> Option<usize> {
        match self {
            Self::Exact(exact) => (exact == host).then_some(usize::MAX),
            Self::Ending(ending) => host.0.ends_with(ending.as_str()).then_some(ending.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_resolve_by_namespace() {
        let parse = |text| Host::parse(text, "shop").map(|host| host.to_string());
        assert_eq!(parse("reviews"), Ok("reviews.shop.svc.cluster.local".to_owned()));
        assert_eq!(parse("a.b.svc.cluster.local"), Ok("a.b.svc.cluster.local".to_owned()));
        assert_eq!(parse("reviews.other"), Ok("reviews.other".to_owned()), "as Istio has it");
        assert_eq!(parse("DB.Example.COM."), Ok("db.example.com".to_owned()));
        assert_eq!(parse("Reviews"), parse("reviews"));
        for bad in ["", ".", "a..", "*", "*.a", "a b", "-"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn splits_are_named_by_service_and_namespace() {
        let host = Host::of_service("shop", "reviews");
        assert_eq!((host.short(), host.service()), ("reviews.shop", "reviews"));
        let host = Host::parse("db.example.com", "shop").unwrap();
        assert_eq!((host.short(), host.service()), ("db.example.com", "db.example.com"));
    }

    #[test]
    fn the_closest_pattern_fits_best() {
        let host = Host::of_service("shop", "reviews");
        let fits = |text| Pattern::parse(text, "shop").unwrap().fits(&host);
        let exact = fits("reviews");
        assert_eq!(exact, fits("reviews.shop.svc.cluster.local"));
        let ordered = [exact, fits("*.shop.svc.cluster.local"), fits("*.cluster.local"), fits("*")];
        assert!(ordered.is_sorted_by(|a, b| a > b), "{ordered:?}");
        assert_eq!(
            (fits("ratings"), fits("*.example.com"), fits("*.local")),
            (None, None, Some(6))
        );
        assert!(Pattern::parse("*a", "shop").is_err());
    }
}
