//! Takes the terminal as `weir top` does, and panics: for a test that sees whether the terminal
//! is as it was.

use anyhow::Result;
use weir::top::Screen;

fn main() -> Result<()> {
    let _screen = Screen::open()?;
    panic!("on purpose");
}
