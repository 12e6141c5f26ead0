use std::time::Duration;

use crate::components;
use crate::stack::Stack;

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The regions; the home region is among them.
    pub regions: Vec<&'static str>,
    /// The round trip between any region and home.
    pub rtt: Duration,
    /// What the regions keep their data in.
    pub stack: Stack,
    /// On servers: whether every region but home has a replica of the primary.
    pub replicas: bool,
    /// On servers: the region whose replica may become the primary.
    pub standby: Option<&'static str>,
    /// On servers: whether the primary is one of a group of three.
    pub group: bool,
    /// Regions with a second edge, which tests start and stop by [`Fleet::start_twin`](crate::Fleet::start_twin).
    pub twins: Vec<&'static str>,
    /// Whether there is a front door.
    pub front_door: bool,
    /// The rules to begin with.
    pub rules: Vec<u8>,
    /// Variables in place of the harness's own; an empty one counts as not set.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            regions: vec!["sin", "jkt", "bkk"],
            rtt: Duration::ZERO,
            stack: Stack::default(),
            replicas: false,
            standby: None,
            group: false,
            twins: Vec::new(),
            front_door: false,
            rules: components().standard.clone(),
            settings: Vec::new(),
        }
    }
}
