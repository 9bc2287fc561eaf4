//! Commands that the agent answers at once: each is a request, and its answer as text.

use anyhow::{Result, bail};

use super::args::{
    ApplyArgs, DeleteArgs, DiffArgs, ExplainArgs, GetArgs, HistoryArgs, Resource, RollbackArgs,
    StatusArgs, WeightsArgs,
};
use super::shifted::{self, Shifted};
use super::{
    EXIT_DIFFERENT, EXIT_DONE, Format, amounts, difference, documents, drain, files, render, show,
    status,
};
use crate::api::Client;
use crate::api::types::{
    ApplyRequest, DeleteRequest, ExplainRequest, RequestedObject, ResetQuery, RollbackRequest,
    WeightsRequest,
};

/// What is printed, and the exit code.
pub(super) type Answer = (String, u8);

fn done(text: String) -> Answer {
    (text, EXIT_DONE)
}

/// The client, with why it asks for a change, if anybody said.
pub(super) fn because(client: &Client, reason: Option<&str>) -> Client {
    reason.map_or_else(|| client.clone(), |text| client.clone().because(text))
}

pub(super) async fn apply(client: &Client, args: ApplyArgs) -> Result<Answer> {
    let ApplyArgs { files, dry_run, reason, output } = args;
    let request =
        ApplyRequest { files: files::read(&files.files)?, dry_run, in_place_of_files: false };
    let view = because(client, reason.as_deref()).apply(&request).await?;
    show(output, &view, difference::apply).map(done)
}

pub(super) async fn diff(client: &Client, args: DiffArgs) -> Result<Answer> {
    let DiffArgs { files, output } = args;
    let files = files::read(&files.files)?;
    let request = ApplyRequest { files, dry_run: true, in_place_of_files: true };
    let view = client.apply(&request).await?;
    let code = if view.changes_something() { EXIT_DIFFERENT } else { EXIT_DONE };
    Ok((show(output, &view, difference::apply)?, code))
}

pub(super) async fn delete(client: &Client, args: DeleteArgs) -> Result<Answer> {
    let objects = args.keys().map_err(anyhow::Error::msg)?;
    let objects = objects.into_iter().map(RequestedObject::from).collect();
    let DeleteArgs { files, dry_run, reason, output, .. } = args;
    let request = DeleteRequest { objects, files: files::read(&files)?, dry_run };
    let view = because(client, reason.as_deref()).delete(&request).await?;
    show(output, &view, difference::apply).map(done)
}

pub(super) async fn weights(client: &Client, args: WeightsArgs) -> Result<Answer> {
    let output = args.output;
    let shifted = shift(&because(client, args.reason.as_deref()), args).await?;
    show(output, &shifted.after, |_| shifted.text()).map(done)
}

async fn shift(client: &Client, args: WeightsArgs) -> Result<Shifted> {
    let WeightsArgs { name, weights: typed, reset, this_node, dry_run, expected, .. } = args;
    let before = client.split(&name).await;
    let mut version = expected.expect_version;
    if reset {
        let pairs = expected.expect.iter().map(|(name, weight)| format!("{name}={weight}"));
        let pairs = pairs.collect::<Vec<_>>().join(",");
        let expect = (!pairs.is_empty()).then_some(pairs);
        let after = client.reset_weights(&name, &ResetQuery { expect, version }).await?;
        return Ok(Shifted::of(before, after, typed));
    }
    let weights = match (amounts::plain(&typed), &before) {
        // Whether they fit is for the agent to say, and whether who asks may change them.
        (Some(weights), _) if !dry_run => weights,
        (_, Ok(before)) => amounts::resolve(&typed, before)?,
        (_, Err(error)) => bail!("{error}"),
    };
    if let (true, Ok(before)) = (dry_run, &before) {
        shifted::expected(before, &expected)?;
        let after = shifted::proposed(before, &weights)?;
        let (before, flags) = (before.clone(), String::new());
        return Ok(Shifted { before, after, typed, dry_run, flags });
    }
    if let (None, Ok(before)) = (amounts::plain(&typed), &before) {
        // Percentages are of the weights that were read.
        version.get_or_insert(before.origin.version);
    }
    let expect = expected.expect.into_iter().collect();
    let request = WeightsRequest { weights, expect, version, this_node };
    let after = client.set_weights(&name, &request).await?;
    Ok(Shifted::of(before, after, typed))
}

pub(super) async fn history(client: &Client, args: HistoryArgs) -> Result<Answer> {
    let changes = client.history(&args.name).await?;
    let left = match (args.output.format, client.split(&args.name).await) {
        (Format::Table, Ok(split)) => {
            let here = render::of_this_node(&split).map(|line| line + "\n").unwrap_or_default();
            here + &drain::left(client, &split).await
        }
        // Of a split that is gone, there are changes.
        _ => String::new(),
    };
    let gap = if left.is_empty() { "" } else { "\n" };
    show(args.output, &changes, |changes| render::history(changes) + gap + &left).map(done)
}

pub(super) async fn rollback(client: &Client, args: RollbackArgs) -> Result<Answer> {
    let RollbackArgs { name, to, this_node, reason, expected, output, .. } = args;
    let expect = expected.expect.into_iter().collect();
    let request = RollbackRequest { to, expect, version: expected.expect_version, this_node };
    let before = client.split(&name).await;
    let after = because(client, reason.as_deref()).rollback(&name, &request).await?;
    let shifted = Shifted::of(before, after, Vec::new());
    show(output, &shifted.after, |_| shifted.text()).map(done)
}

pub(super) async fn explain(client: &Client, args: ExplainArgs) -> Result<Answer> {
    let ExplainArgs { from, to, protocol, output, .. } = args;
    let explained = client.explain(ExplainRequest { from, to, protocol }).await?;
    show(output, &explained, render::explain).map(done)
}

pub(super) async fn status(client: &Client, args: StatusArgs) -> Result<Answer> {
    status::ask(client, &args).await
}

pub(super) async fn get(client: &Client, args: GetArgs) -> Result<Answer> {
    let GetArgs { resource, name, cluster, output } = args;
    let text = match resource.unwrap_or(Resource::Splits { name, cluster, output }) {
        Resource::Splits { name: Some(name), output, .. } => {
            let split = client.split(&name).await?;
            let left = match output.format {
                Format::Table => drain::left(client, &split).await,
                _ => String::new(),
            };
            show(output, &split, |split| render::split(split) + &left)
        }
        Resource::Splits { name: None, output, .. } => {
            show(output, &client.splits().await?, |splits| render::splits(splits))
        }
        Resource::Documents { applied, output } => {
            let mut documents = client.documents().await?;
            documents.retain(|document| !applied || document.source == "applied");
            show(output, &documents, |documents| documents::table(documents))
        }
        Resource::Routes { output } => {
            let mut documents = client.documents().await?;
            documents.retain(|document| document.is_route());
            show(output, &documents, |routes| documents::routes(routes))
        }
    };
    text.map(done)
}
