use std::fmt;

use crate::{any_seed, number_setting, size_setting, text_setting};

/// What a run is: told by the seed, and the same plan for the same seed. How the threads of the fleet take turns
/// is not part of the plan, so what failed once fails again often, and not always.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// Questions asked, tries of the same one not counted.
    pub operations: usize,
    /// Sessions at a time. Several of them share a cart.
    pub clients: usize,
    /// The regions; the home region is among them.
    pub regions: Vec<&'static str>,
    /// Only these kinds of faults; `None` for all that the fleet can have.
    pub faults: Option<Vec<String>>,
    /// So many operations for each fault.
    pub operations_per_fault: usize,
}

const SEED: &str = "TROLI_HISTORY_SEED";
const OPERATIONS: &str = "TROLI_HISTORY_OPERATIONS";
const CLIENTS: &str = "TROLI_HISTORY_CLIENTS";
const REGIONS: &str = "TROLI_HISTORY_REGIONS";
const FAULTS: &str = "TROLI_HISTORY_FAULTS";

impl Options {
    /// A run with this many operations, unless the environment says otherwise.
    pub fn from_environment(operations: usize) -> Self {
        let all = ["sin", "kul", "jkt", "bkk", "sgn", "mnl"];
        let regions = text_setting(REGIONS).map(|text| {
            let known = |name: &str| {
                let found = all.iter().find(|id| **id == name.trim()).copied();
                found.unwrap_or_else(|| panic!("{REGIONS}: there is no region {name:?}"))
            };
            text.split(',').map(known).collect()
        });
        Self {
            seed: number_setting(SEED).unwrap_or_else(any_seed),
            operations: size_setting(OPERATIONS).unwrap_or(operations),
            clients: size_setting(CLIENTS).unwrap_or(24),
            regions: regions.unwrap_or_else(|| vec!["sin", "jkt", "bkk"]),
            faults: text_setting(FAULTS)
                .map(|text| text.split(',').map(|kind| kind.trim().to_owned()).collect()),
            operations_per_fault: 250,
        }
    }
}

impl fmt::Display for Options {
    /// What has to stand before `tests/run` to have this run again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEED}={} {OPERATIONS}={} {CLIENTS}={}", self.seed, self.operations, self.clients)?;
        write!(f, " {REGIONS}={}", self.regions.join(","))?;
        match &self.faults {
            Some(faults) => write!(f, " {FAULTS}={}", faults.join(",")),
            None => Ok(()),
        }
    }
}
