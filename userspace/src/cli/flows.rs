//! `weir flows`: the flow table, written as it comes.

use std::io::Write;
use std::time::Duration;

use super::columns::{
    Align::{Left, Right},
    Columns,
};
use super::seeing::{FlowsArgs, LineFormat};
use crate::api::Client;
use crate::api::types::FlowView;

/// Writes the flows that are asked for; says on standard error if there are more.
pub(super) async fn show(
    client: &Client,
    args: FlowsArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut flows = client.flows(&args.query()).await?;
    let mut table = Columns::new([
        ("PROTO", Left),
        ("CLIENT", Left),
        ("SERVICE", Left),
        ("SPLIT", Left),
        ("SUBSET", Left),
        ("ENDPOINT", Left),
        ("STATE", Left),
        ("IDLE", Right),
        ("AGE", Right),
    ]);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut some, mut more) = (false, false);
    while let Some(mut found) = flows.next().await? {
        more |= found.len() as u64 > left;
        found.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= found.len() as u64;
        let text = match args.output.format {
            LineFormat::Json => json(&found)?,
            LineFormat::Table if found.is_empty() => continue,
            LineFormat::Table => table.lines(&found.iter().map(row).collect::<Vec<_>>()),
        };
        some = true;
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    if !some && args.output.format == LineFormat::Table {
        out.write_all(table.lines(&[]).as_bytes())?;
        out.flush()?;
    }
    if let (true, Some(limit)) = (more, args.limit) {
        eprintln!("weir: there are more flows than {limit}");
    }
    Ok(())
}

fn json(flows: &[FlowView]) -> anyhow::Result<String> {
    let mut text = String::new();
    for flow in flows {
        text.push_str(&serde_json::to_string(flow)?);
        text.push('\n');
    }
    Ok(text)
}

fn row(flow: &FlowView) -> [String; 9] {
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    [
        flow.protocol.to_string(),
        flow.client.to_string(),
        flow.service.to_string(),
        name(&flow.split),
        name(&flow.subset),
        flow.endpoint.to_string(),
        flow.state.to_string(),
        time(flow.idle_seconds),
        time(flow.age_seconds),
    ]
}

/// Such as 2h5m10s.
fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string().replace(' ', "")
}
