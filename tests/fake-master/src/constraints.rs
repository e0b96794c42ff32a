//! Roles, and the constraints on the agents that are offered (Mesos 1.11: `OfferConstraints`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesos_v1::framework_info::capability::Type as Capability;
use mesos_v1::scheduler::attribute_constraint::{
    Predicate, predicate::Predicate as Test, selector::PseudoattributeType, selector::Selector,
};
use mesos_v1::scheduler::{AttributeConstraint, OfferConstraints};
use mesos_v1::{Attribute, FrameworkInfo};
use regex::Regex;

use crate::settings::AgentSpec;
use crate::state::has;

/// What a predicate is asked about.
enum Subject<'a> {
    Missing,
    Text(&'a str),
    /// An attribute that is no text: predicates on text hold for it.
    Other,
}

#[derive(Debug)]
struct Condition {
    selector: Selector,
    test: Test,
    pattern: Option<Regex>,
}

/// Constraints that were found valid: for each role, groups of which one must hold.
#[derive(Debug, Default)]
pub struct Constraints {
    roles: BTreeMap<Arc<str>, Vec<Vec<Condition>>>,
    /// As they came.
    pub message: OfferConstraints,
}

impl Constraints {
    /// The roles need not be the framework's.
    pub fn new(message: &OfferConstraints) -> Result<Self, String> {
        let mut roles = BTreeMap::new();
        for (role, constraints) in &message.role_constraints {
            if constraints.groups.is_empty() {
                return Err(format!(
                    "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {role}"
                ));
            }
            let mut groups = Vec::new();
            for group in &constraints.groups {
                if group.attribute_constraints.is_empty() {
                    // Mesos has no space there.
                    return Err(format!(
                        "'OfferConstraints::RoleConstraints::groups' for role {role}contains an empty \
                         RoleConstraints::Group"
                    ));
                }
                let group: Result<Vec<_>, _> = group.attribute_constraints.iter().map(condition).collect();
                let fault = |fault| format!("A role {role} has an invalid 'AttributeConstraint': {fault}");
                groups.push(group.map_err(fault)?);
            }
            roles.insert(role.as_str().into(), groups);
        }
        Ok(Self { roles, message: message.clone() })
    }

    /// Whether `role` is not offered this agent, whatever is free there.
    pub fn exclude(&self, role: &str, agent: &AgentSpec) -> bool {
        let holds = |condition: &Condition| condition.holds(agent);
        self.roles.get(role).is_some_and(|groups| !groups.iter().any(|group| group.iter().all(holds)))
    }
}

fn condition(message: &AttributeConstraint) -> Result<Condition, String> {
    let selector = match &message.selector.selector {
        Some(Selector::PseudoattributeType(number)) => {
            match PseudoattributeType::try_from(*number).unwrap_or_default() {
                PseudoattributeType::Unknown => return Err("Unknown pseudoattribute type".to_owned()),
                known => Selector::PseudoattributeType(known.into()),
            }
        }
        Some(Selector::AttributeName(name)) => Selector::AttributeName(name.clone()),
        None => {
            return Err("Exactly one of 'AttributeConstraint::Selector::name' or \
                        'AttributeConstraint::Selector::pseudoattribute_type' must be set"
                .to_owned());
        }
    };
    let Predicate { predicate: Some(test) } = message.predicate.clone() else {
        return Err("Unknown predicate type".to_owned());
    };
    let pattern = match &test {
        Test::TextMatches(matches) => Some(&matches.regex),
        Test::TextNotMatches(matches) => Some(&matches.regex),
        _ => None,
    };
    // Mesos matches the whole text.
    let compiled = pattern.map(|pattern| {
        Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| format!("Failed to construct regex from pattern '{pattern}': {error}"))
    });
    Ok(Condition { selector, test, pattern: compiled.transpose()? })
}

impl Condition {
    fn holds(&self, agent: &AgentSpec) -> bool {
        let domain = agent.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
        let subject = match &self.selector {
            Selector::AttributeName(name) => {
                agent.attributes.iter().find(|a| a.name == *name).map_or(Subject::Missing, of_attribute)
            }
            Selector::PseudoattributeType(number) => {
                match PseudoattributeType::try_from(*number).unwrap_or_default() {
                    PseudoattributeType::Hostname => Subject::Text(&agent.hostname),
                    PseudoattributeType::Region => of_text(domain.map(|domain| &*domain.region.name)),
                    PseudoattributeType::Zone => of_text(domain.map(|domain| &*domain.zone.name)),
                    PseudoattributeType::Unknown => Subject::Missing,
                }
            }
        };
        let matches = |text: &str| self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text));
        match (&self.test, subject) {
            (Test::Exists(_), subject) => !matches!(subject, Subject::Missing),
            (Test::NotExists(_), subject) => matches!(subject, Subject::Missing),
            (Test::TextEquals(_) | Test::TextMatches(_), Subject::Missing) => false,
            (Test::TextNotEquals(_) | Test::TextNotMatches(_), Subject::Missing) | (_, Subject::Other) => {
                true
            }
            (Test::TextEquals(equals), Subject::Text(text)) => text == equals.value,
            (Test::TextNotEquals(equals), Subject::Text(text)) => text != equals.value,
            (Test::TextMatches(_), Subject::Text(text)) => matches(text),
            (Test::TextNotMatches(_), Subject::Text(text)) => !matches(text),
        }
    }
}

fn of_text(text: Option<&str>) -> Subject<'_> {
    text.map_or(Subject::Missing, Subject::Text)
}

fn of_attribute(attribute: &Attribute) -> Subject<'_> {
    attribute.text.as_ref().map_or(Subject::Other, |text| Subject::Text(&text.value))
}

/// Says what is wrong with a framework's roles.
pub fn validate_roles(info: &FrameworkInfo) -> Result<(), String> {
    if !has(info, Capability::MultiRole) {
        if !info.roles.is_empty() {
            return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
                .to_owned());
        }
        return validate_role(info.role())
            .map_err(|fault| format!("'FrameworkInfo.role' is not a valid role: {fault}"));
    }
    if info.role.is_some() {
        return Err(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".to_owned()
        );
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = info.roles.iter().find(|role| !seen.insert(*role)) {
        return Err(format!("'FrameworkInfo.roles' contains duplicate items: {{ {twice} }}"));
    }
    info.roles
        .iter()
        .try_for_each(|role| validate_role(role))
        .map_err(|fault| format!("'FrameworkInfo.roles' contains invalid role: {fault}"))
}

/// The rules for the names of roles.
pub fn validate_role(role: &str) -> Result<(), String> {
    if role.is_empty() {
        return Err("Role names cannot be the empty string".to_owned());
    }
    if role == "*" {
        return Ok(());
    }
    if role.starts_with('/') {
        return Err(format!("Role '{role}' cannot start with a slash"));
    }
    if role.ends_with('/') {
        return Err(format!("Role '{role}' cannot end with a slash"));
    }
    if role.contains("//") {
        return Err(format!("Role '{role}' cannot contain two adjacent slashes"));
    }
    for part in role.split('/') {
        let fault = match part {
            "." | ".." | "*" => format!("Role '{role}' cannot include '{part}' as a component"),
            _ if part.starts_with('-') => {
                format!("Role component '{part}' is invalid because it starts with a dash")
            }
            _ if part.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) => {
                format!("Role component '{part}' is invalid because it contains backspace or whitespace")
            }
            _ => continue,
        };
        return Err(fault);
    }
    Ok(())
}
