//! Durations as Mesos writes them into the environment: `15mins`, `2secs`, `1.5hrs`.

use std::time::Duration;

const UNITS: [(&str, f64); 8] = [
    ("weeks", 604_800.0),
    ("days", 86_400.0),
    ("hrs", 3_600.0),
    ("mins", 60.0),
    ("secs", 1.0),
    ("ms", 1e-3),
    ("us", 1e-6),
    ("ns", 1e-9),
];

/// A text that is no duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a duration: expected a number and one of ns, us, ms, secs, mins, hrs, days, weeks")]
pub struct DurationError(String);

/// Parses a duration; a negative one is an error.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    UNITS
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .and_then(|(number, seconds)| {
            let number = number.parse::<f64>().ok()?;
            Duration::try_from_secs_f64(number * seconds).ok()
        })
        .ok_or_else(|| DurationError(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_an_agent_writes() {
        for (text, seconds) in [
            ("15mins", 900.0),
            ("2secs", 2.0),
            ("100ms", 0.1),
            ("24hrs", 86_400.0),
            ("1.5secs", 1.5),
            ("0ns", 0.0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_named() {
        for text in ["", "5", "secs", "-1secs", "1 hour", "NaNsecs"] {
            assert!(parse(text).unwrap_err().to_string().contains(&format!("\"{text}\"")));
        }
    }
}
