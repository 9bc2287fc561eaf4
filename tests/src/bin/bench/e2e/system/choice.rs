//! Which systems are measured.

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::{ALL, System};

/// What the command line says of it.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// Measure only these of the systems that are compared, and plain forwarding.
    #[arg(long, global = true, value_name = "LIST", value_delimiter = ',')]
    systems: Vec<String>,
    /// Leave out systems, such as those that cannot be installed here.
    #[arg(long, global = true, value_name = "LIST", value_delimiter = ',')]
    without: Vec<String>,
}

impl Choice {
    /// The systems, in their order; plain forwarding, the base, comes first.
    ///
    /// # Errors
    ///
    /// Names what is no system, and does not leave out the base.
    pub fn systems(&self) -> Result<Vec<&'static System>> {
        let known = |id: &String| ALL.iter().any(|system| system.id == *id);
        if let Some(unknown) = self.systems.iter().chain(&self.without).find(|id| !known(id)) {
            let all: Vec<&str> = ALL.iter().map(|system| system.id).collect();
            bail!("no system is called `{unknown}`; there are: {}", all.join(", "));
        }
        let has = |list: &[String], system: &System| list.iter().any(|id| id == system.id);
        ensure!(
            !has(&self.without, &ALL[0]),
            "`--without {}`: the others are compared with it",
            ALL[0].id
        );
        let wanted = |system: &System| {
            self.systems.is_empty() || system.id == ALL[0].id || has(&self.systems, system)
        };
        Ok(ALL.iter().filter(|s| wanted(s) && !has(&self.without, s)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(systems: &[&str], without: &[&str]) -> Result<Vec<&'static str>> {
        let [systems, without] = [systems, without].map(|l| l.iter().map(|&s| s.into()).collect());
        Ok(Choice { systems, without }.systems()?.iter().map(|system| system.id).collect())
    }

    #[test]
    fn the_base_is_always_among_the_chosen() {
        assert_eq!(chosen(&["weir-tc", "haproxy"], &[]).unwrap(), ["plain", "haproxy", "weir-tc"]);
        assert_eq!(chosen(&[], &[]).unwrap().len(), ALL.len());
        assert!(!chosen(&[], &["envoy"]).unwrap().contains(&"envoy"));
        assert!(chosen(&[], &["plain"]).is_err());
    }

    #[test]
    fn an_unknown_name_is_rejected_with_those_that_there_are() {
        let error = chosen(&[], &["enovy"]).unwrap_err().to_string();
        assert!(error.contains("`enovy`") && error.contains("nginx, envoy"), "{error}");
    }
}
