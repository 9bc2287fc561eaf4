//! `applier DIRECTORY FIRST`: applies documents to a state directory, as the
//! agent does, until it is killed. The nth apply is three splits of weight n,
//! in one transaction; n is printed once it is acknowledged.

use std::io::Write as _;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use weir::desired::DesiredState;
use weir::resource::declarations;
use weir::store::Store;
use weir_tests::applies;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("no DIRECTORY")?;
    let first: u32 = arguments.next().context("no FIRST")?.parse()?;
    // The journal is rewritten often: after some ten applies.
    let (mut store, notices) = Store::open_with(directory.as_ref(), applies::WORTH_COMPACTING)?;
    for notice in notices {
        eprintln!("{notice}");
    }
    let mut desired_state = DesiredState::start(store.persisted(), []);
    let mut out = std::io::stdout().lock();
    for n in first.. {
        let documents = declarations(&[("applier", applies::documents(n))])
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let mut step =
            desired_state.apply(store.persisted(), documents, SystemTime::now().into())?;
        store.commit(std::mem::take(&mut step.transaction))?;
        store.compact_if_grown()?;
        desired_state.accept(step);
        writeln!(out, "{n}")?;
        out.flush()?;
    }
    Ok(())
}
