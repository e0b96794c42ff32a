use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn windows(text: &str) -> Windows {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A moment as RFC 3339 has it: in UTC, or with an offset.
fn at(text: &str) -> Timestamp {
    let moment: jiff::Timestamp = text.parse().unwrap();
    Timestamp(moment.as_millisecond().try_into().unwrap())
}

/// The moments between the two at which it opens and closes, found minute by minute.
fn changes(windows: &Windows, from: &str, to: &str) -> Vec<(String, bool)> {
    let (mut now, end) = (at(from), at(to));
    let mut open = windows.is_open(now);
    let mut changes = Vec::new();
    while now < end {
        now = now.after(Duration::from_mins(1));
        if windows.is_open(now) != open {
            open = !open;
            changes.push((now.to_string(), open));
        }
    }
    changes
}

fn found(changes: &[(&str, bool)]) -> Vec<(String, bool)> {
    changes.iter().map(|(moment, open)| ((*moment).to_owned(), *open)).collect()
}

#[test]
fn without_a_window_it_is_always_open() {
    let always = Windows::default();
    for now in [Timestamp(0), at("2026-03-29T01:30:00Z"), Timestamp(u64::MAX)] {
        assert!(always.is_open(now));
        assert_eq!(always.opens(now), None);
    }
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    // 2026-06-05 is a Friday; Berlin is two hours ahead.
    let windows = windows("Mon-Fri 22:00-04:00 Europe/Berlin");
    assert_eq!(
        changes(&windows, "2026-06-05T12:00:00Z", "2026-06-09T12:00:00Z"),
        found(&[
            ("2026-06-05T20:00:00Z", true),
            ("2026-06-06T02:00:00Z", false),
            ("2026-06-08T20:00:00Z", true),
            ("2026-06-09T02:00:00Z", false),
        ])
    );
    assert_eq!(windows.opens(at("2026-06-06T02:00:00Z")), Some(at("2026-06-08T20:00:00Z")));
    assert!(windows.is_open(at("2026-06-05T20:00:00Z")) && !windows.is_open(at("2026-06-05T19:59:59.999Z")));
}

#[test]
fn a_range_of_days_goes_over_the_end_of_the_week() {
    let windows = windows("Sat-Mon 01:00-02:00");
    assert_eq!(
        changes(&windows, "2026-06-01T12:00:00Z", "2026-06-09T12:00:00Z"),
        found(&[
            ("2026-06-06T01:00:00Z", true),
            ("2026-06-06T02:00:00Z", false),
            ("2026-06-07T01:00:00Z", true),
            ("2026-06-07T02:00:00Z", false),
            ("2026-06-08T01:00:00Z", true),
            ("2026-06-08T02:00:00Z", false),
        ])
    );
}

#[test]
fn days_are_added_up() {
    for (days, same) in [
        ("Tue+Thu", "tue+THU+Tue"),
        ("Mon-Wed+Sat", "Mon+Tue+Wed+Sat"),
        ("daily", "Wed-Tue"),
        ("Sun-Mon", "Mon+Sun"),
        ("Fri-Fri", "Fri"),
    ] {
        let days: Days = days.parse().unwrap();
        assert_eq!(Ok(days), same.parse(), "{same}");
    }
    assert_eq!("Sun".parse(), Ok(Days(0b100_0000)));
}

#[test]
fn windows_that_touch_are_one() {
    let windows = windows("daily 20:00-24:00, daily 00:00-02:00, Wed 02:00-03:00");
    assert_eq!(
        changes(&windows, "2026-06-02T12:00:00Z", "2026-06-04T12:00:00Z"),
        found(&[
            ("2026-06-02T20:00:00Z", true),
            ("2026-06-03T03:00:00Z", false),
            ("2026-06-03T20:00:00Z", true),
            ("2026-06-04T02:00:00Z", false),
        ])
    );
    let whole = self::windows("daily 00:00-24:00 Asia/Kathmandu");
    assert_eq!(changes(&whole, "2026-06-02T12:00:00Z", "2026-06-04T12:00:00Z"), []);
    assert!(whole.is_open(at("2026-06-02T12:00:00Z")));
}

#[test]
fn one_that_begins_in_a_left_out_hour_begins_when_clocks_go_on() {
    // From 02:00 to 03:00 in Berlin and New York, and from 02:00 to 02:30 on Lord Howe Island.
    for (window, from, to, open, close) in [
        (
            "Sun 02:30-04:00 Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T02:00:00Z",
        ),
        (
            "Sun 02:30-04:00 America/New_York",
            "2026-03-07T12:00:00Z",
            "2026-03-08T12:00:00Z",
            "2026-03-08T07:00:00Z",
            "2026-03-08T08:00:00Z",
        ),
        (
            "Sun 02:15-04:00 Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            "2026-10-04T12:00:00Z",
            "2026-10-03T15:30:00Z",
            "2026-10-03T17:00:00Z",
        ),
        // It ends in the hour that is left out.
        (
            "Sat 22:00-02:30 Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
            "2026-03-28T21:00:00Z",
            "2026-03-29T01:00:00Z",
        ),
    ] {
        let windows = windows(window);
        assert_eq!(changes(&windows, from, to), found(&[(open, true), (close, false)]), "{window}");
        assert_eq!(windows.opens(at(from)), Some(at(open)), "{window}");
    }
    let swallowed = windows("Sun 02:10-02:50 Europe/Berlin");
    assert_eq!(changes(&swallowed, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"), []);
    let week_after = at("2026-04-05T02:10:00+02:00");
    assert_eq!(swallowed.opens(at("2026-03-28T12:00:00Z")), Some(week_after));
    assert_eq!(swallowed.opens(at("2026-03-22T02:50:00+01:00")), Some(week_after), "two weeks later");
}

#[test]
fn an_hour_that_clocks_show_twice_counts_twice() {
    for (window, from, to, expected) in [
        (
            "Sun 02:15-02:45 Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-25T12:00:00Z",
            vec![
                ("2026-10-25T00:15:00Z", true),
                ("2026-10-25T00:45:00Z", false),
                ("2026-10-25T01:15:00Z", true),
                ("2026-10-25T01:45:00Z", false),
            ],
        ),
        // Its second part begins as clocks are set back into it.
        (
            "Sun 00:30-01:30 America/New_York",
            "2026-10-31T12:00:00Z",
            "2026-11-01T12:00:00Z",
            vec![
                ("2026-11-01T04:30:00Z", true),
                ("2026-11-01T05:30:00Z", false),
                ("2026-11-01T06:00:00Z", true),
                ("2026-11-01T06:30:00Z", false),
            ],
        ),
        // By half an hour, from 02:00.
        (
            "Sun 01:45-03:00 Australia/Lord_Howe",
            "2026-04-04T08:00:00Z",
            "2026-04-05T08:00:00Z",
            vec![
                ("2026-04-04T14:45:00Z", true),
                ("2026-04-04T15:00:00Z", false),
                ("2026-04-04T15:15:00Z", true),
                ("2026-04-04T16:30:00Z", false),
            ],
        ),
    ] {
        let windows = windows(window);
        assert_eq!(changes(&windows, from, to), found(&expected), "{window}");
        for pair in expected.windows(2).filter(|pair| pair[1].1) {
            assert_eq!(windows.opens(at(pair[0].0)), Some(at(pair[1].0)), "{window}");
        }
    }
}

#[test]
fn a_day_that_a_calendar_left_out_is_no_trouble() {
    // Samoa went from Thursday the 29th to Saturday the 31st.
    let windows = windows("Fri-Sat 10:00-11:00 Pacific/Apia");
    let thursday = at("2011-12-30T09:00:00Z");
    assert_eq!(windows.opens(thursday), Some(at("2011-12-30T20:00:00Z")));
}

#[test]
fn moments_that_no_calendar_knows_are_no_trouble() {
    let windows = windows("Mon 01:00-02:00 Europe/Berlin");
    for now in [Timestamp(u64::MAX), at("9999-12-30T21:00:00Z")] {
        assert!(!windows.is_open(now));
        assert_eq!(windows.opens(now), None);
    }
    assert!(windows.opens(Timestamp(0)).is_some());
}

#[test]
fn what_is_no_window_is_told_with_what_would_be_right() {
    for (text, wrong, right) in [
        ("22:00-04:00", "'22:00-04:00'", "like 'Mon-Fri 22:00-04:00 Europe/Berlin'"),
        ("Mon 22:00-04:00 UTC now", "'Mon 22:00-04:00 UTC now'", "like 'Mon-Fri"),
        (",", "','", "like 'Mon-Fri"),
        ("Mon-Fry 22:00-04:00", "'Mon-Fry'", "Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
        ("Mon-Tue-Wed 22:00-04:00", "'Mon-Tue-Wed'", "Tue+Thu"),
        ("Monday 22:00-04:00", "'Monday'", "daily"),
        ("Mon+ 22:00-04:00", "'Mon+'", "daily"),
        ("Mon 22-04", "'22-04'", "22:00-04:00"),
        ("Mon 9:00-10:00", "'9:00-10:00'", "22:00-04:00"),
        ("Mon +9:00-10:00", "'+9:00-10:00'", "22:00-04:00"),
        ("Mon 22:60-23:00", "'22:60-23:00'", "00:00 to 24:00"),
        ("Mon 22:00-24:01", "'22:00-24:01'", "00:00 to 24:00"),
        ("Mon 24:00-04:00", "'24:00-04:00'", "00:00 to 24:00"),
        ("Mon 22:00", "'22:00'", "22:00-04:00"),
        ("Mon 22:00-22:00", "'22:00-22:00'", "00:00-24:00"),
        ("Mon 22:00-04:00 Europe/Berln", "'Europe/Berln'", "Europe/Berlin"),
        ("Mon 22:00-04:00 +02:00", "'+02:00'", "Europe/Berlin"),
        ("Mon 22:00-04:00, Tue", "'Tue'", "like 'Mon-Fri"),
    ] {
        let error = text.parse::<Windows>().unwrap_err().to_string();
        assert!(error.starts_with(wrong) && error.contains(right), "{text}: {error}");
    }
}

/// Time zones, each with a moment at which its clocks are changed.
const CHANGES: [(&str, &str); 9] = [
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    // At midnight: days are shorter at their beginning, and longer at their end.
    ("America/Santiago", "2026-09-06T04:00:00Z"),
    ("America/Santiago", "2026-04-05T03:00:00Z"),
    // Never.
    ("Asia/Kathmandu", "2026-01-01T00:00:00Z"),
];

/// One or two windows of a time zone, as an operator writes them.
fn some_windows(zone: &'static str) -> impl Strategy<Value = String> {
    let days = prop::sample::select(vec!["Sun", "Sat-Mon", "Tue+Thu", "Mon-Fri", "daily", "Sun+Wed-Thu"]);
    // Most at the hours at which clocks are changed.
    let minute = || prop_oneof![4 => 0..240_u16, 1 => 1320..1440_u16, 1 => 0..1440_u16];
    let window = (days, minute(), minute())
        .prop_filter("it has a length", |(_, from, to)| from != to)
        .prop_map(move |(days, from, to)| {
            let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            format!("{days} {}-{} {zone}", clock(from), clock(to))
        });
    prop::collection::vec(window, 1..3).prop_map(|windows| windows.join(","))
}

/// A moment around `change`, or any of seven years.
fn moments(change: &str) -> impl Strategy<Value = Timestamp> + use<> {
    let (change, hour) = (at(change).0, 60 * 60 * 1000);
    let any = at("2024-01-01T00:00:00Z").0..at("2031-01-01T00:00:00Z").0;
    prop_oneof![4 => change - 12 * hour..change + 3 * hour, 1 => any].prop_map(Timestamp)
}

fn windows_and_moments() -> impl Strategy<Value = (String, Timestamp)> {
    let places = prop::sample::select(CHANGES.to_vec());
    places.prop_flat_map(|(zone, change)| (some_windows(zone), moments(change)))
}

proptest! {
    #[test]
    fn it_opens_when_it_says_and_not_before((text, now) in windows_and_moments()) {
        let windows = windows(&text);
        let opens = windows.opens(now);
        prop_assert_eq!(opens.is_none(), windows.is_open(now), "{}", text);
        if let Some(opens) = opens {
            prop_assert!(windows.is_open(opens), "{} at {}", text, opens);
            prop_assert!(!windows.is_open(Timestamp(opens.0 - 1)), "{} just before {}", text, opens);
            // Windows begin and end with a minute.
            let mut between = Timestamp(now.0 - now.0 % 60_000).after(Duration::from_mins(1));
            while between < opens {
                prop_assert!(!windows.is_open(between), "{} at {} before {}", text, between, opens);
                between = between.after(Duration::from_mins(1));
            }
        }
    }
}
