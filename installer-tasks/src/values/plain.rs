//! Numbers and addresses as options have them, with errors that say what would be right.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::ValueError;

/// Reads a number of this range, all of which is a `T`.
pub fn number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, ValueError> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (*range.start(), *range.end());
        number.and_then(|number| T::try_from(number).ok()).ok_or(ValueError::Number { least, most })
    }
}

/// Reads an IPv4 address.
pub fn ipv4(text: &str) -> Result<Ipv4Addr, ValueError> {
    text.parse().map_err(|_| ValueError::Ipv4)
}

/// Reads an address with its port.
pub fn socket(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::Socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_its_range_or_refused_with_it() {
        let read = number::<u8>(20..=32);
        assert_eq!((read("20").unwrap(), read("32").unwrap()), (20, 32));
        for wrong in ["19", "33", "276", "-1", "2O", "", "20.0", " 20"] {
            assert_eq!(read(wrong).unwrap_err().to_string(), "it must be a number from 20 to 32", "{wrong}");
        }
    }
}
