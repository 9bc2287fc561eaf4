//! The terminal, as the view needs it, and back as it was: at the end, after
//! an error, and after a panic.

use std::io::{self, IsTerminal as _, Stdout, stdout};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// The terminal's other screen, until it is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// Fails if standard input and output are no terminal.
    pub fn open() -> io::Result<Self> {
        if !(io::stdin().is_terminal() && stdout().is_terminal()) {
            return Err(io::Error::other(
                "standard input and output are no terminal; `weir watch` prints the same as lines",
            ));
        }
        let hook = std::panic::take_hook();
        // Else what the panic says is on the screen that goes.
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        let open = || {
            enable_raw_mode()?;
            execute!(stdout(), EnterAlternateScreen)?;
            Terminal::new(CrosstermBackend::new(stdout()))
        };
        open().map(|terminal| Self { terminal }).inspect_err(|_| restore())
    }

    /// To draw on.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Doing it twice does no harm; if it fails, there is nobody to tell.
fn restore() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
