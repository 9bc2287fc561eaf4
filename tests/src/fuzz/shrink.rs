//! The least that still differs.

use anyhow::{Context as _, Result};

use super::history::{Bench, Difference, Step};

/// Whether these steps make a difference, from the start.
fn replay(bench: &mut Bench, shapes: &[usize], steps: &[Step]) -> Result<Option<Difference>> {
    bench.reset(shapes)?;
    for step in steps {
        if let Some(difference) = bench.take(step)? {
            return Ok(Some(difference));
        }
    }
    bench.check_counts()
}

/// Leaves out steps, more at once first; then takes damage back, where the difference stays.
///
/// # Errors
///
/// As the kernel's; or if the steps do not differ when they are taken again.
pub fn shrink(
    bench: &mut Bench,
    shapes: &[usize],
    steps: &[Step],
) -> Result<(Vec<Step>, Difference)> {
    let mut steps = steps.to_vec();
    let mut difference =
        replay(bench, shapes, &steps)?.context("no difference when all was done again")?;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match replay(bench, shapes, &fewer)? {
                Some(found) => (steps, difference) = (fewer, found),
                None => at += size,
            }
        }
        size /= 2;
    }
    for at in 0..steps.len() {
        let Step::Frame(sent) = &steps[at] else { continue };
        let (frame, whole) = (sent.frame.clone(), sent.whole.clone());
        let differing: Vec<_> =
            (0..frame.len().min(whole.len())).filter(|&n| frame[n] != whole[n]).collect();
        for n in std::iter::once(None).chain(differing.into_iter().map(Some)) {
            let mut milder = steps.clone();
            let Step::Frame(sent) = &mut milder[at] else { continue };
            match n {
                None => sent.frame = whole.clone(),
                Some(n) => sent.frame[n] = whole[n],
            }
            if let Some(found) = replay(bench, shapes, &milder)? {
                (steps, difference) = (milder, found);
                if n.is_none() {
                    break;
                }
            }
        }
    }
    Ok((steps, difference))
}
