//! Where a limit of the agents of one domain cannot hold.

use super::super::Core;
use super::super::ids::AgentKey;
use super::super::listing::Presence;

/// The option that says how many agents of one domain may be under way.
pub(in super::super) const MAX_PER_DOMAIN: &str = "rollout.max-per-domain";

impl Core {
    /// On how many agents that limit does not hold, for nothing says their domain, and what would; for people.
    pub(in super::super) fn without_domain(&self) -> Option<String> {
        let most = self.settings.rollout.max_per_domain?;
        // Of one that is away its domain is not known either: it has no turn.
        let there = self
            .state
            .agents
            .values()
            .filter(|agent| !agent.aside && self.presence(&agent.key) == Some(&Presence::Active));
        let there: Vec<&AgentKey> = there.map(|agent| &agent.key).collect();
        let without = || there.iter().filter(|key| !self.rolling.domains.contains_key(**key));
        let first = without().min()?;
        let why = match &self.settings.rollout.domain_attribute {
            Some(name) => format!("they have no attribute '{name}' (rollout.domain-attribute)"),
            None => {
                "Mesos tells no region and zone of them, and rollout.domain-attribute is not given".to_owned()
            }
        };
        let (number, all) = (without().count(), there.len());
        Some(format!(
            "{MAX_PER_DOMAIN} = {most} does not hold on {number} of {all} agents, {first} among them: {why}"
        ))
    }
}
