//! Strict stand-ins for Calico's own programs, for tests and the demo.
