//! The resources of Istio's tasks "Traffic Shifting" and "TCP Traffic Shifting".
//!
//! They are no part of this repository: they are read from the directory that
//! `WEIR_ISTIO_SAMPLES` names, or `../shared/istio-samples` beside the checkout. Where
//! they are missing, documents with the same content in other words are used, and
//! that is said on standard error.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A file of the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// The subsets of productpage, reviews, ratings and details.
    DestinationRules,
    /// All four services to v1.
    AllV1,
    /// reviews: v1 50, v3 50.
    Reviews5050,
    /// reviews: v1 90, v2 10.
    Reviews9010,
    /// reviews: v3.
    ReviewsV3,
    /// reviews: by an HTTP header.
    ReviewsByHeader,
    /// The workloads of bookinfo: their Services and Deployments.
    Bookinfo,
    /// Those of tcp-echo.
    Echo,
    /// tcp-echo: Gateway, subsets, and everything to v1.
    EchoV1,
    /// tcp-echo: v1 80, v2 20.
    Echo8020,
    /// tcp-echo with the Gateway API: Gateway, Services, and everything to v1.
    EchoRouteV1,
    /// tcp-echo with the Gateway API: v1 80, v2 20.
    EchoRoute8020,
}

/// Where the files are, if they are there.
#[derive(Clone, Debug)]
pub struct Samples(Option<PathBuf>);

impl Samples {
    /// Looks for the files, and says so if they are missing.
    #[must_use]
    pub fn find() -> Self {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/istio-samples");
        let named = std::env::var_os("WEIR_ISTIO_SAMPLES").map(PathBuf::from);
        let path = named.unwrap_or(beside);
        let found = path.join("bookinfo").is_dir();
        if !found {
            eprintln!(
                "note: Istio's samples are not in {}: documents of the same content are used",
                path.display()
            );
        }
        Self(found.then_some(path))
    }

    /// The same documents in other words, whether or not the files are there.
    #[must_use]
    pub const fn own() -> Self {
        Self(None)
    }

    /// Whether the files are there.
    #[must_use]
    pub const fn are_there(&self) -> bool {
        self.0.is_some()
    }

    /// The file, if the directory is there. Workloads belong to other tasks, and may be missing.
    fn there(&self, sample: Sample) -> Option<PathBuf> {
        let path = self.0.as_ref()?.join(sample.path());
        (path.exists() || !matches!(sample, Sample::Bookinfo | Sample::Echo)).then_some(path)
    }

    /// A file to be named on a command line: the sample itself, or one in `directory` with the
    /// same content.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    #[must_use]
    pub fn file(&self, sample: Sample, directory: &Path) -> PathBuf {
        if let Some(path) = self.there(sample) {
            return path;
        }
        let path = directory.join(sample.path().replace('/', "-"));
        std::fs::write(&path, sample.own()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// The text of a file.
    ///
    /// # Panics
    ///
    /// If the directory is there and a file of the tasks is not.
    #[must_use]
    pub fn text(&self, sample: Sample) -> String {
        let Some(path) = self.there(sample) else { return sample.own() };
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Sample {
    const fn path(self) -> &'static str {
        match self {
            Self::DestinationRules => "bookinfo/destination-rule-all.yaml",
            Self::AllV1 => "bookinfo/virtual-service-all-v1.yaml",
            Self::Reviews5050 => "bookinfo/virtual-service-reviews-50-v3.yaml",
            Self::Reviews9010 => "bookinfo/virtual-service-reviews-90-10.yaml",
            Self::ReviewsV3 => "bookinfo/virtual-service-reviews-v3.yaml",
            Self::ReviewsByHeader => "bookinfo/virtual-service-reviews-jason-v2-v3.yaml",
            Self::Bookinfo => "bookinfo/platform/kube/bookinfo.yaml",
            Self::Echo => "tcp-echo/tcp-echo-services.yaml",
            Self::EchoV1 => "tcp-echo/tcp-echo-all-v1.yaml",
            Self::Echo8020 => "tcp-echo/tcp-echo-20-v2.yaml",
            Self::EchoRouteV1 => "tcp-echo/gateway-api/tcp-echo-all-v1.yaml",
            Self::EchoRoute8020 => "tcp-echo/gateway-api/tcp-echo-20-v2.yaml",
        }
    }

    /// The content in other words.
    fn own(self) -> String {
        match self {
            Self::DestinationRules => {
                rule("productpage", "productpage", &["v1"])
                    + &rule("reviews", "reviews", &["v1", "v2", "v3"])
                    + &rule("ratings", "ratings", &["v1", "v2"])
                    + &rule("details", "details", &["v1", "v2"])
            }
            Self::AllV1 => ["productpage", "reviews", "ratings", "details"]
                .map(|name| http(name, &[("v1", 1)]))
                .concat(),
            Self::Reviews5050 => http("reviews", &[("v1", 50), ("v3", 50)]),
            Self::Reviews9010 => http("reviews", &[("v1", 90), ("v2", 10)]),
            Self::ReviewsV3 => http("reviews", &[("v3", 1)]),
            Self::ReviewsByHeader => http("reviews", &[("v3", 1)])
                .replace("- route", "- match: [{headers: {user: {exact: jason}}}]\n    route"),
            Self::Bookinfo => ["productpage", "reviews", "ratings", "details"]
                .map(|name| {
                    let versions: &[&str] =
                        if name == "reviews" { &["v1", "v2", "v3"] } else { &["v1"] };
                    workload(name, "http", 9080, versions)
                })
                .concat(),
            Self::Echo => workload("tcp-echo", "tcp", 9000, &["v1", "v2"]),
            Self::EchoV1 => {
                let gateway = object("networking.istio.io/v1", "Gateway", "tcp-echo-gateway");
                let gateway = format!(
                    "{gateway}spec: {{selector: {{istio: ingressgateway}}, servers: [{{hosts: ['*'], \
                     port: {{name: tcp, number: 31400, protocol: TCP}}}}]}}\n"
                );
                gateway
                    + &rule("tcp-echo-destination", "tcp-echo", &["v1", "v2"])
                    + &echo(&[("v1", 1)])
            }
            Self::Echo8020 => echo(&[("v1", 80), ("v2", 20)]),
            Self::EchoRouteV1 => {
                let gateway =
                    object("gateway.networking.k8s.io/v1beta1", "Gateway", "tcp-echo-gateway");
                let gateway = format!(
                    "{gateway}spec: {{gatewayClassName: any, listeners: [{{name: tcp-31400, port: 31400, \
                     protocol: TCP, allowedRoutes: {{kinds: [{{kind: TCPRoute}}]}}}}]}}\n"
                );
                let service = |version: &str| {
                    let head = object("v1", "Service", &format!("tcp-echo-{version}"));
                    format!(
                        "{head}spec: {{ports: [{{name: tcp, port: 9000}}], selector: {{version: {version}}}}}\n"
                    )
                };
                gateway + &service("v1") + &service("v2") + &route(&[("v1", 1)])
            }
            Self::EchoRoute8020 => route(&[("v1", 80), ("v2", 20)]),
        }
    }
}

fn object(version: &str, kind: &str, name: &str) -> String {
    format!("---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\n")
}

/// A Service and a Deployment of each version.
fn workload(name: &str, port: &str, number: u16, versions: &[&str]) -> String {
    let mut text = object("v1", "Service", name);
    let _ = writeln!(
        text,
        "spec: {{ports: [{{name: {port}, port: {number}}}], selector: {{app: {name}}}}}"
    );
    for version in versions {
        let labels = format!("{{app: {name}, version: {version}}}");
        text += &object("apps/v1", "Deployment", &format!("{name}-{version}"));
        let _ = writeln!(
            text,
            "spec:\n  selector: {{matchLabels: {labels}}}\n  template:\n    metadata: {{labels: {labels}}}\n    spec: {{containers: [{{name: {name}, image: identify, ports: [{{containerPort: {number}}}]}}]}}"
        );
    }
    text
}

fn rule(name: &str, host: &str, subsets: &[&str]) -> String {
    let mut text = object("networking.istio.io/v1beta1", "DestinationRule", name);
    let _ = writeln!(text, "spec:\n  host: {host}\n  subsets:");
    for subset in subsets {
        let _ = writeln!(text, "  - {{name: {subset}, labels: {{version: {subset}}}}}");
    }
    text
}

fn http(host: &str, weights: &[(&str, u32)]) -> String {
    let head = object("networking.istio.io/v1beta1", "VirtualService", host);
    let mut text = format!("{head}spec:\n  hosts: [{host}]\n  http:\n  - route:\n");
    for (subset, weight) in weights {
        let target = format!("{{host: {host}, subset: {subset}}}");
        let _ = writeln!(text, "    - {{destination: {target}, weight: {weight}}}");
    }
    text
}

fn echo(weights: &[(&str, u32)]) -> String {
    let head = object("networking.istio.io/v1beta1", "VirtualService", "tcp-echo");
    let mut text = format!(
        "{head}spec:\n  hosts: ['*']\n  gateways: [tcp-echo-gateway]\n  tcp:\n  - match: [{{port: 31400}}]\n    route:\n"
    );
    for (subset, weight) in weights {
        let target = format!("{{host: tcp-echo, port: {{number: 9000}}, subset: {subset}}}");
        let _ = writeln!(text, "    - {{destination: {target}, weight: {weight}}}");
    }
    text
}

fn route(weights: &[(&str, u32)]) -> String {
    let head = object("gateway.networking.k8s.io/v1alpha2", "TCPRoute", "tcp-echo");
    let mut text = format!(
        "{head}spec:\n  parentRefs: [{{name: tcp-echo-gateway, sectionName: tcp-31400}}]\n  rules:\n  - backendRefs:\n"
    );
    for (version, weight) in weights {
        let _ = writeln!(text, "    - {{name: tcp-echo-{version}, port: 9000, weight: {weight}}}");
    }
    text
}
