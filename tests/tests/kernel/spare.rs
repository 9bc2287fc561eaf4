//! Loaded programs that nobody uses at the moment. The verifier takes more than a second for them,
//! so who is done with some gives them back, with their maps made blank, for the next case that
//! wants them with the same settings.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use weir::datapath::Settings;
use weir_tests::loaded::Loaded;

/// With the settings that each was loaded with.
static SPARE: Mutex<Vec<(String, Loaded)>> = Mutex::new(Vec::new());

/// Programs and maps of one's own, until they are dropped.
pub struct Borrowed {
    settings: String,
    loaded: Option<Loaded>,
    /// How many maps the object has, which some uses take out of it.
    maps: usize,
}

impl Borrowed {
    pub fn new(settings: &Settings) -> Self {
        // All that the programs were told when they were loaded.
        let settings_text = format!("{settings:?}");
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let found = spare.iter().position(|(of, _)| *of == settings_text);
        let found = found.map(|at| spare.swap_remove(at).1);
        drop(spare);
        let mut loaded = found
            .unwrap_or_else(|| Loaded::new(settings).expect("the object loads (root is needed)"));
        let maps = loaded.object().ebpf().maps().count();
        Self { settings: settings_text, loaded: Some(loaded), maps }
    }
}

impl Deref for Borrowed {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.loaded.as_ref().expect("until it is dropped")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.loaded.as_mut().expect("until it is dropped")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // What a failed case leaves is nobody's business.
        if std::thread::panicking() {
            return;
        }
        let Some(mut loaded) = self.loaded.take() else { return };
        if loaded.object().ebpf().maps().count() != self.maps {
            return;
        }
        loaded.reset().expect("maps are made blank");
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push((std::mem::take(&mut self.settings), loaded));
    }
}
