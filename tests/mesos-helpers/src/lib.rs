//! The two helper programs of the Mesos agent: mesos-executor and mesos-fetcher.
