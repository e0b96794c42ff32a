//! The parts of the Mesos v1 HTTP APIs that the scheduler and the test executor speak.
