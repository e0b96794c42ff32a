//! Time, as the core takes it: forwards only.

use super::ids::Timestamp;

/// Makes a time that never goes back of the wall clock's, which an operator or NTP may set back: deadlines would
/// otherwise stand still for as long. Until the wall clock has caught up, time passes at half its speed.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: Timestamp,
    /// The wall clock's last word.
    wall: Timestamp,
    /// When the wall clock was set back: what it said then, and what time it was.
    set_back: Option<(Timestamp, Timestamp)>,
}

impl Clock {
    /// What time it is when the wall clock says `wall`.
    pub fn tell(&mut self, wall: Timestamp) -> Timestamp {
        if wall < self.wall {
            self.set_back = Some((wall, self.now));
        }
        self.wall = wall;
        let slow = self.set_back.map(|(from, now)| now.after(wall.since(from) / 2));
        match slow {
            Some(slow) if slow > wall => self.now = slow,
            _ => {
                self.set_back = None;
                self.now = self.now.max(wall);
            }
        }
        self.now
    }

    /// The time of the last input.
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_at_half_speed_until_a_clock_that_was_set_back_has_caught_up() {
        let mut clock = Clock::default();
        let mut tell = |wall| clock.tell(Timestamp(wall)).0;
        assert_eq!([tell(1000), tell(1500)], [1000, 1500]);
        // Set back by 1000; single milliseconds add up.
        assert_eq!([tell(500), tell(501), tell(502), tell(504)], [1500, 1500, 1501, 1502]);
        assert_eq!(tell(1500), 2000);
        // Set back again before it has caught up.
        assert_eq!([tell(1000), tell(1200)], [2000, 2100]);
        assert_eq!([tell(3199), tell(3201), tell(3300)], [3199, 3201, 3300]);
    }
}
