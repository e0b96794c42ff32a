//! Everything that touches a host: installs, supervises and checks Calico's parts.
