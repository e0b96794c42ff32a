//! tmp
fn main() { cluster::prepare().unwrap() }
