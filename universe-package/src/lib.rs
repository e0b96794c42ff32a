//! Builds, validates and renders the DC/OS Universe package.
