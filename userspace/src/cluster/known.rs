//! Up to where everything that happened is known, of each kind.

use crate::desired::Positions;
use crate::resource::Kind;

/// What is known, and what of it was told.
#[derive(Debug, Default)]
pub(super) struct Known {
    now: Positions,
    told: Positions,
}

impl Known {
    /// Everything of a kind up to this version is known. A version that is no number says
    /// nothing, since none is before or after it.
    pub fn reach(&mut self, kind: Kind, version: &str) {
        match version.parse() {
            Ok(version) => _ = self.now.insert(kind, version),
            Err(_) => self.forget(kind),
        }
    }

    /// A kind is not followed any more.
    pub fn forget(&mut self, kind: Kind) {
        self.now.remove(&kind);
    }

    /// Whether it is not what was told.
    pub fn is_news(&self) -> bool {
        self.now != self.told
    }

    /// What is known: whoever takes it is told all that came up to there.
    pub fn tell(&mut self) -> Positions {
        self.told.clone_from(&self.now);
        self.now.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_where_the_server_goes_and_is_news_until_it_was_told() {
        let mut known = Known::default();
        assert!(!known.is_news());
        known.reach(Kind::Service, "12");
        known.reach(Kind::Pod, "7");
        assert!(known.is_news());
        assert_eq!(known.tell(), Positions::from([(Kind::Service, 12), (Kind::Pod, 7)]));
        assert!(!known.is_news());
        // A server that was restored is behind.
        known.reach(Kind::Service, "9");
        known.forget(Kind::Pod);
        assert!(known.is_news());
        assert_eq!(known.tell(), Positions::from([(Kind::Service, 9)]));
        known.reach(Kind::Service, "v9");
        assert_eq!(known.tell(), Positions::new());
    }
}
