//! Processor time of the thread: what a figure "on one core" means, whatever else the machine does.

use std::time::Duration;

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Measures the thread's processor time.
pub struct CpuTime;

/// The processor time that this thread has had.
pub fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// The processor time that this thread has had since `start`.
pub fn since(start: Duration) -> Duration {
    now().saturating_sub(start)
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, start: Duration) -> Duration {
        since(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// How many offers a message has.
pub fn elements(number: usize) -> Throughput {
    Throughput::Elements(number.try_into().unwrap())
}
