//! The list as tables for people.

use std::fmt::Write as _;

use super::{COMMON, Field, Treatment, fields};
use crate::resource::identity::{HEADERS, Kind};

/// The tables of all kinds, in Markdown: the second half of `docs/resources.md`.
pub fn markdown() -> String {
    let mut out = String::from("## All kinds\n");
    rows(&mut out, COMMON);
    for header in HEADERS {
        // UDPRoute has the fields of TCPRoute.
        let Some(fields) = fields(header.kind).filter(|_| header.kind != Kind::UdpRoute) else {
            continue;
        };
        let name = match header.kind {
            Kind::TcpRoute => "TCPRoute and UDPRoute".to_owned(),
            kind => kind.to_string(),
        };
        let versions: Vec<String> =
            header.api_versions().iter().map(|version| format!("`{version}`")).collect();
        write!(out, "\n## {name}\n\n{}\n", versions.join(", ")).expect("a string");
        rows(&mut out, fields);
    }
    out
}

fn rows(out: &mut String, fields: &[Field]) {
    out.push_str("\n| field | | |\n|---|---|---|\n");
    for field in fields {
        let treatment = match field.treatment {
            Treatment::Honoured => "honoured",
            Treatment::Noted => "noted",
            Treatment::Rejected => "rejected",
            Treatment::Silent => "of no meaning",
        };
        let fine: Vec<String> =
            field.fine.iter().map(|value| format!("`{}`", value.replace('"', ""))).collect();
        let fine = match fine.as_slice() {
            [] => String::new(),
            fine => format!("; nothing is said of {}", fine.join(" and ")),
        };
        writeln!(out, "| `{}` | {treatment} | {}{fine} |", field.path, field.text)
            .expect("a string");
    }
}
