//! Maintenance windows: when disruption may begin.
//!
//! A window is what wall clocks show, in its time zone. One that begins in an hour that clocks leave out begins when they
//! go on, one that lies in it is not open that day, and in an hour that they show twice it is open twice.

use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, ToSpan as _};

use super::super::ids::Timestamp;

/// When something may begin: always, when there is no window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows(Vec<Window>);

/// One window, which begins on some days of the week.
#[derive(Debug, Clone, PartialEq)]
struct Window {
    days: Days,
    /// In minutes since midnight.
    from: u16,
    /// Not after `from` when it is on the next day.
    to: u16,
    zone: TimeZone,
}

/// Days of the week: bit 0 is Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Days(u8);

const WEEK: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const WHOLE_DAY: u16 = 24 * 60;
/// A window of one day a week may be left out once, when its hour is.
const LONGEST_WAIT: i32 = 15;

/// What is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It has not the parts of one.
    #[error(
        "'{0}' must be days, times and a time zone (UTC when left out), like 'Mon-Fri 22:00-04:00 Europe/Berlin'"
    )]
    Form(String),
    /// Its days are none.
    #[error(
        "'{0}' must be a day (Mon, Tue, Wed, Thu, Fri, Sat, Sun), a range like Mon-Fri or Sat-Mon, several of them like \
         Tue+Thu, or daily"
    )]
    Days(String),
    /// Its times are none.
    #[error("'{0}' must be two times from 00:00 to 24:00, like 22:00-04:00, which ends on the next day")]
    Times(String),
    /// It has no length.
    #[error("'{0}' ends when it begins; a whole day is 00:00-24:00")]
    Empty(String),
    /// Its time zone is none.
    #[error("'{0}' must be a time zone of the IANA database, like Europe/Berlin or UTC")]
    Zone(String),
}

impl Windows {
    /// Whether something may begin now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let now = moment(now);
        self.0.is_empty() || self.0.iter().any(|window| window.is_open(now))
    }

    /// When something may begin again, while it may not now.
    pub fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_open(now) {
            return None;
        }
        let opens = self.0.iter().filter_map(|window| window.opens(moment(now))).min()?;
        u64::try_from(opens.as_millisecond()).ok().map(Timestamp)
    }
}

impl FromStr for Windows {
    type Err = WindowError;

    /// Reads windows, comma-separated.
    fn from_str(text: &str) -> Result<Self, WindowError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let windows: Vec<Window> = parts.map(str::parse).collect::<Result<_, _>>()?;
        if windows.is_empty() { Err(WindowError::Form(text.to_owned())) } else { Ok(Self(windows)) }
    }
}

impl Window {
    fn is_open(&self, now: jiff::Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        let minute = minute_of_day(local);
        let today = local.weekday().to_monday_zero_offset();
        let over_midnight = self.to <= self.from;
        let of_today = self.from <= minute && (over_midnight || minute < self.to);
        let of_yesterday = over_midnight && minute < self.to;
        of_today && self.days.contains(today) || of_yesterday && self.days.contains(today - 1)
    }

    /// The next moment at which it is open, while it is not now: a wall clock comes to its beginning, or jumps into it.
    fn opens(&self, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let today = self.zone.to_datetime(now).date();
        let at = |n: i32| today.checked_add(n.days()).ok();
        let begins = (-1..=LONGEST_WAIT).filter_map(at).flat_map(|day| self.begins(day));
        let last = now.checked_add(Span::new().hours(24 * LONGEST_WAIT)).unwrap_or(jiff::Timestamp::MAX);
        let jumps = self.zone.following(now).map(|jump| jump.timestamp()).take_while(|jump| *jump <= last);
        begins.chain(jumps).filter(|moment| *moment > now && self.is_open(*moment)).min()
    }

    /// The moments at which wall clocks show its beginning on `day`: one, two, or none.
    fn begins(&self, day: Date) -> impl Iterator<Item = jiff::Timestamp> {
        let (hour, minute) = (self.from / 60, self.from % 60);
        // Less than 24 and 60: both are small.
        let local = day.at(hour.try_into().unwrap_or(0), minute.try_into().unwrap_or(0), 0, 0);
        let offsets = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
            AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
            AmbiguousOffset::Gap { .. } => [None, None],
        };
        offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(local).ok())
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let (days, times, zone) = match *parts {
            [days, times] => (days, times, "UTC"),
            [days, times, zone] => (days, times, zone),
            _ => return Err(WindowError::Form(text.to_owned())),
        };
        let (from, to) = times
            .split_once('-')
            .and_then(|(from, to)| Some((time(from)?, time(to)?)))
            .filter(|(from, _)| *from < WHOLE_DAY)
            .ok_or_else(|| WindowError::Times(times.to_owned()))?;
        if from == to {
            return Err(WindowError::Empty(times.to_owned()));
        }
        let days = days.parse()?;
        let known = TimeZoneDatabase::bundled().get(zone);
        Ok(Self { days, from, to, zone: known.map_err(|_| WindowError::Zone(zone.to_owned()))? })
    }
}

impl Days {
    const DAILY: Self = Self(0x7f);

    /// Whether a day is one of them: 0 is a Monday, 7 the next one, -1 the Sunday before.
    fn contains(self, day: i8) -> bool {
        self.0 & (1 << day.rem_euclid(7)) != 0
    }
}

impl FromStr for Days {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        if text.eq_ignore_ascii_case("daily") {
            return Ok(Self::DAILY);
        }
        let day = |name: &str| WEEK.iter().position(|day| day.eq_ignore_ascii_case(name));
        let mut days = Self(0);
        for part in text.split('+') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) =
                day(first).zip(day(last)).ok_or_else(|| WindowError::Days(text.to_owned()))?;
            // Over the week's end when the last is before the first.
            let length = (last + WEEK.len() - first) % WEEK.len();
            days.0 |= (first..=first + length).fold(0, |days, day| days | 1 << (day % WEEK.len()));
        }
        Ok(days)
    }
}

/// `HH:MM` in minutes since midnight; 24:00 is the end of the day.
fn time(text: &str) -> Option<u16> {
    let two_digits = |text: &str| -> Option<u16> {
        let fine = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| fine)
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    Some(hour * 60 + minute).filter(|time| minute < 60 && *time <= WHOLE_DAY)
}

fn minute_of_day(local: DateTime) -> u16 {
    // Never negative.
    u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs())
}

/// The last moment that calendars know stands for those after it.
fn moment(at: Timestamp) -> jiff::Timestamp {
    let known = i64::try_from(at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    known.unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests;
