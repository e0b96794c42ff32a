//! The arithmetic of Mesos' resources, in a form that is small enough for tens of thousands of agents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use mesos_v1::resource::{AllocationInfo, ReservationInfo, reservation_info};
use mesos_v1::{Resource, value};

/// An amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amount {
    /// Thousandths, the precision that Mesos computes with.
    Scalar(i64),
    /// Inclusive ranges, in order, none of which touch.
    Ranges(Vec<(u64, u64)>),
    /// Names.
    Set(BTreeSet<String>),
}

impl Amount {
    fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(amount) => *amount <= 0,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(mine), Self::Scalar(more)) => *mine += more,
            (Self::Ranges(mine), Self::Ranges(more)) => {
                mine.extend(more);
                *mine = joined(std::mem::take(mine));
            }
            (Self::Set(mine), Self::Set(more)) => mine.extend(more.iter().cloned()),
            _ => {}
        }
    }

    fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(mine), Self::Scalar(less)) => *mine -= less,
            (Self::Ranges(mine), Self::Ranges(less)) => {
                for (begin, end) in less {
                    *mine = mine.iter().flat_map(|range| without(*range, *begin, *end)).collect();
                }
            }
            (Self::Set(mine), Self::Set(less)) => mine.retain(|item| !less.contains(item)),
            _ => {}
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(mine), Self::Scalar(theirs)) => mine >= theirs,
            (Self::Ranges(mine), Self::Ranges(theirs)) => {
                theirs.iter().all(|(begin, end)| mine.iter().any(|(b, e)| b <= begin && end <= e))
            }
            (Self::Set(mine), Self::Set(theirs)) => theirs.is_subset(mine),
            _ => false,
        }
    }
}

/// Ranges in order, joined where they touch or overlap.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut all: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (begin, end) in ranges {
        match all.last_mut() {
            Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            _ => all.push((begin, end)),
        }
    }
    all
}

/// What is left of a range.
fn without((begin, end): (u64, u64), from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
    let below = (begin < from).then(|| (begin, end.min(from.saturating_sub(1))));
    let above = (end > to).then(|| (begin.max(to.saturating_add(1)), end));
    let whole = to < begin || end < from;
    let parts = if whole { [Some((begin, end)), None] } else { [below, above] };
    parts.into_iter().flatten()
}

/// One resource: amounts of the same name and reservations are one part.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `cpus`, `mem`, …
    pub name: Arc<str>,
    /// How much.
    pub amount: Amount,
    /// Its reservations, the innermost last; empty when unreserved.
    pub reservations: Arc<[ReservationInfo]>,
    /// Revocable, shared, of a disk or a resource provider: no agent here has such.
    pub special: bool,
}

impl Part {
    fn is_like(&self, other: &Self) -> bool {
        self.name == other.name
            && self.special == other.special
            && (Arc::ptr_eq(&self.reservations, &other.reservations)
                || self.reservations == other.reservations)
    }

    /// The role that it is reserved for.
    pub fn reserved_for(&self) -> Option<&str> {
        self.reservations.last().map(ReservationInfo::role)
    }

    /// Whether the innermost reservation was made by a framework or an operator.
    pub fn is_dynamically_reserved(&self) -> bool {
        self.reservations.last().is_some_and(|last| last.r#type() == reservation_info::Type::Dynamic)
    }
}

/// Resources of one agent. What they are allocated to is known from where they are kept.
#[derive(Debug, Clone, Default)]
pub struct Resources(Vec<Part>);

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.contains(other) && other.contains(self)
    }
}

impl Resources {
    /// So many CPUs and megabytes, unreserved.
    pub fn of(cpus: f64, mem: f64) -> Self {
        let none: Arc<[ReservationInfo]> = Arc::from([]);
        Self::default().with("cpus", cpus, &none).with("mem", mem, &none)
    }

    /// Adds a scalar.
    #[must_use]
    pub fn with(mut self, name: &str, amount: f64, reservations: &Arc<[ReservationInfo]>) -> Self {
        self.add_part(&Part {
            name: name.into(),
            amount: Amount::Scalar(thousandths(amount)),
            reservations: Arc::clone(reservations),
            special: false,
        });
        self
    }

    /// All of it reserved for `role` by the agent's own configuration.
    #[must_use]
    pub fn statically_reserved(mut self, role: &str) -> Self {
        let reservation = ReservationInfo {
            role: Some(role.to_owned()),
            r#type: Some(reservation_info::Type::Static.into()),
            ..Default::default()
        };
        let reservations: Arc<[ReservationInfo]> = Arc::from([reservation]);
        for part in &mut self.0 {
            part.reservations = Arc::clone(&reservations);
        }
        self
    }

    /// The resources of messages; says what is wrong with them, in Mesos' words.
    pub fn of_messages<'a>(messages: impl IntoIterator<Item = &'a Resource>) -> Result<Self, String> {
        let mut resources = Self::default();
        for message in messages {
            resources.add_part(&part(message)?);
        }
        Ok(resources)
    }

    /// The messages for these resources, allocated to `role`.
    pub fn messages(&self, role: Option<&str>) -> Vec<Resource> {
        self.0.iter().map(|part| message(part, role)).collect()
    }

    /// As operators read them: with the fields of before Mesos 1.4, too, where they can say it.
    pub fn messages_for_operators(&self, role: Option<&str>) -> Vec<Resource> {
        let mut messages = self.messages(role);
        for message in &mut messages {
            match message.reservations.as_slice() {
                [] => message.role = Some("*".to_owned()),
                [only] => {
                    let (principal, labels) = (only.principal.clone(), only.labels.clone());
                    let is_dynamic = only.r#type() == reservation_info::Type::Dynamic;
                    message.role.clone_from(&only.role);
                    message.reservation =
                        is_dynamic.then(|| ReservationInfo { principal, labels, ..Default::default() });
                }
                _ => {}
            }
        }
        messages
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its parts.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    fn add_part(&mut self, part: &Part) {
        if part.amount.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|mine| mine.is_like(part)) {
            Some(mine) => mine.amount.add(&part.amount),
            None => self.0.push(part.clone()),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|part| self.add_part(part));
    }

    /// Takes `other` away; what is not there is not taken.
    pub fn subtract(&mut self, other: &Self) {
        for part in &other.0 {
            if let Some(mine) = self.0.iter_mut().find(|mine| mine.is_like(part)) {
                mine.amount.subtract(&part.amount);
            }
        }
        self.0.retain(|part| !part.amount.is_empty());
    }

    /// What is left when `other` is taken away.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.subtract(other);
        rest
    }

    /// Whether all of `other` is in it.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|part| self.0.iter().any(|mine| mine.is_like(part) && mine.amount.contains(&part.amount)))
    }

    /// The parts that `keep` names.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Part) -> bool) -> Self {
        Self(self.0.iter().filter(|part| keep(part)).cloned().collect())
    }

    /// What a framework in `role` can be offered: what is unreserved, and what is reserved for the role or one above.
    #[must_use]
    pub fn allocatable_to(&self, role: &str) -> Self {
        self.filtered(|part| match part.reserved_for() {
            None => true,
            Some(owner) => {
                role == owner || role.strip_prefix(owner).is_some_and(|below| below.starts_with('/'))
            }
        })
    }

    /// Thousandths of the scalar `name`, whatever its reservations.
    pub fn scalar(&self, name: &str) -> i64 {
        self.scalars().filter(|(part, _)| *part == name).map(|(_, amount)| amount).sum()
    }

    /// All scalars, in thousandths.
    pub fn scalars(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().filter_map(|part| match part.amount {
            Amount::Scalar(amount) => Some((&*part.name, amount)),
            _ => None,
        })
    }

    /// The same with the innermost reservation of each part taken away: what a RESERVE consumes, and what an UNRESERVE
    /// makes.
    #[must_use]
    pub fn without_last_reservation(&self) -> Self {
        let mut outer = Self::default();
        for part in &self.0 {
            let kept = part.reservations.len().saturating_sub(1);
            outer.add_part(&Part { reservations: Arc::from(&part.reservations[..kept]), ..part.clone() });
        }
        outer
    }

    /// As Mesos writes allocated resources in its messages.
    pub fn display<'a>(&'a self, role: &'a str) -> impl fmt::Display + 'a {
        Display { resources: self, role }
    }
}

/// Mesos computes with three decimals.
#[expect(clippy::cast_possible_truncation, reason = "no agent has 2^53 thousandths of anything")]
pub fn thousandths(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "no agent has 2^53 thousandths of anything")]
fn decimal(amount: i64) -> f64 {
    amount as f64 / 1000.0
}

fn part(message: &Resource) -> Result<Part, String> {
    if message.name.is_empty() {
        return Err("Empty resource name".to_owned());
    }
    let kind = value::Type::try_from(message.r#type).map_err(|_| "Invalid resource type".to_owned())?;
    let amount = match (kind, message.scalar, &message.ranges, &message.set) {
        (value::Type::Scalar, Some(scalar), None, None) if scalar.value >= 0.0 => {
            Amount::Scalar(thousandths(scalar.value))
        }
        (value::Type::Scalar, Some(scalar), None, None) => {
            let role = message.allocation_info.as_ref().and_then(|info| info.role.as_ref());
            let role = role.map(|role| format!("(allocated: {role})")).unwrap_or_default();
            // Mesos says so, but takes zero.
            return Err(format!(
                "Resource '{}{role}:{}' is invalid: Invalid scalar resource: value <= 0",
                message.name, scalar.value
            ));
        }
        (value::Type::Scalar, ..) => return Err("Invalid scalar resource".to_owned()),
        (value::Type::Ranges, None, Some(ranges), None) if ranges.range.iter().all(|r| r.begin <= r.end) => {
            Amount::Ranges(joined(ranges.range.iter().map(|range| (range.begin, range.end)).collect()))
        }
        (value::Type::Ranges, ..) => return Err("Invalid ranges resource".to_owned()),
        (value::Type::Set, None, None, Some(set)) => Amount::Set(set.item.iter().cloned().collect()),
        (value::Type::Set, ..) => return Err("Invalid set resource".to_owned()),
        (value::Type::Text, ..) => return Err("Unsupported resource type".to_owned()),
    };
    let special = message.revocable.is_some()
        || message.shared.is_some()
        || message.disk.is_some()
        || message.provider_id.is_some();
    Ok(Part {
        name: message.name.as_str().into(),
        amount,
        reservations: message.reservations.as_slice().into(),
        special,
    })
}

fn message(part: &Part, role: Option<&str>) -> Resource {
    let mut message = Resource {
        name: part.name.to_string(),
        allocation_info: role.map(|role| AllocationInfo { role: Some(role.to_owned()) }),
        reservations: part.reservations.to_vec(),
        ..Default::default()
    };
    match &part.amount {
        Amount::Scalar(amount) => {
            message.r#type = value::Type::Scalar.into();
            message.scalar = Some(value::Scalar { value: decimal(*amount) });
        }
        Amount::Ranges(ranges) => {
            message.r#type = value::Type::Ranges.into();
            let range = ranges.iter().map(|(begin, end)| value::Range { begin: *begin, end: *end });
            message.ranges = Some(value::Ranges { range: range.collect() });
        }
        Amount::Set(items) => {
            message.r#type = value::Type::Set.into();
            message.set = Some(value::Set { item: items.iter().cloned().collect() });
        }
    }
    message
}

struct Display<'a> {
    resources: &'a Resources,
    role: &'a str,
}

impl fmt::Display for Display<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.resources.is_empty() {
            return f.write_str("{}");
        }
        for (position, part) in self.resources.0.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}(allocated: {})", part.name, self.role)?;
            if !part.reservations.is_empty() {
                let all: Vec<String> = part.reservations.iter().map(reservation_text).collect();
                write!(f, "(reservations: [{}])", all.join(", "))?;
            }
            match &part.amount {
                Amount::Scalar(amount) => write!(f, ":{}", decimal(*amount))?,
                Amount::Ranges(ranges) => {
                    let all: Vec<String> = ranges.iter().map(|(b, e)| format!("{b}-{e}")).collect();
                    write!(f, ":[{}]", all.join(", "))?;
                }
                Amount::Set(items) => {
                    write!(f, ":{{{}}}", items.iter().cloned().collect::<Vec<_>>().join(", "))?;
                }
            }
        }
        Ok(())
    }
}

fn reservation_text(reservation: &ReservationInfo) -> String {
    let mut text = format!("({},{}", reservation.r#type().as_str_name(), reservation.role());
    if let Some(principal) = &reservation.principal {
        text.push(',');
        text.push_str(principal);
    }
    if let Some(labels) = &reservation.labels {
        let all = labels.labels.iter().map(|label| match &label.value {
            Some(value) => format!("{}: {value}", label.key),
            None => label.key.clone(),
        });
        text.push_str(",{");
        text.push_str(&all.collect::<Vec<_>>().join(", "));
        text.push('}');
    }
    text + ")"
}

/// Sums of scalars by name, in thousandths.
#[derive(Debug, Clone, Default)]
pub struct Quantities(BTreeMap<Box<str>, i64>);

impl Quantities {
    /// Adds the scalars of `resources`.
    pub fn add(&mut self, resources: &Resources) {
        resources.scalars().for_each(|(name, amount)| self.change(name, amount));
    }

    /// Takes the scalars of `resources` away.
    pub fn subtract(&mut self, resources: &Resources) {
        resources.scalars().for_each(|(name, amount)| self.change(name, -amount));
    }

    fn change(&mut self, name: &str, by: i64) {
        match self.0.get_mut(name) {
            Some(sum) => *sum += by,
            None => drop(self.0.insert(name.into(), by)),
        }
    }

    /// The largest share that these are of `total`, over all names.
    pub fn dominant_share(&self, total: &Self) -> f64 {
        let share = |name: &str, sum: i64| match total.0.get(name) {
            Some(all) if *all > 0 => decimal(sum) / decimal(*all),
            _ => 0.0,
        };
        self.0.iter().map(|(name, sum)| share(name, *sum)).fold(0.0, f64::max)
    }
}
