//! A part of the cluster, as operators give it: a number of agents, or a percentage.

use std::fmt;
use std::str::FromStr;

/// A number of agents, or a percentage of those that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many, at least 1.
    Number(u32),
    /// From 1 to 100.
    Percent(u8),
}

impl Share {
    /// How many of `total` it is: a percentage is rounded down, and is at least 1.
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Number(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Self::Percent(percent) => (total.saturating_mul(usize::from(percent)) / 100).max(1),
        }
    }
}

/// What is not a [`Share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of agents from 1, like 5, or a percentage from 1% to 100%, like 10%")]
pub struct ShareError;

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(ShareError);
        }
        let number: u32 = digits.parse().map_err(|_| ShareError)?;
        match (text.ends_with('%'), number) {
            (_, 0) => Err(ShareError),
            (false, number) => Ok(Self::Number(number)),
            (true, percent) if percent <= 100 => {
                u8::try_from(percent).map(Self::Percent).map_err(|_| ShareError)
            }
            (true, _) => Err(ShareError),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_percentage_rounded_down_and_at_least_one() {
        let of = |text: &str, total| text.parse::<Share>().unwrap().of(total);
        assert_eq!([of("10%", 0), of("10%", 19), of("10%", 20), of("100%", 7)], [1, 1, 2, 7]);
        assert_eq!([of("5", 0), of("5", 1000), of("007", 1)], [5, 5, 7]);
        assert_eq!(Share::Percent(20).to_string().parse(), Ok(Share::Percent(20)));
        assert_eq!(Share::Number(20).to_string().parse(), Ok(Share::Number(20)));
        for wrong in ["", "%", "0", "0%", "101%", "-1", "+1", "1.5", "10 %", "10%%", "99999999999", "ten"] {
            let error = wrong.parse::<Share>().unwrap_err().to_string();
            assert!(error.contains("like 5") && error.contains("like 10%"), "{wrong}");
        }
    }
}
