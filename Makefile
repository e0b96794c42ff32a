# Two commands do everything on a fresh Debian machine with Rust: `make demo` and `make test`.

BUILD := target/x86_64-unknown-linux-gnu/debug
# What the machine itself needs, as 'command:package' or 'file:package'; all else is in the hosts' base image.
NEEDS := debootstrap:debootstrap systemd-nspawn:systemd-container ip:iproute2 g++:g++ protoc:protobuf-compiler \
         /usr/include/google/protobuf/descriptor.proto:libprotobuf-dev python3:python3 pip3:python3-pip strace:strace \
         dbus-daemon:dbus-daemon curl:curl

.PHONY: help deps build demo demo-down test test-long bench lint

help:
	@echo 'make demo       a local cluster, Calico installed on it and shown to work (Ctrl-C ends it)'
	@echo 'make demo-down  ends it from elsewhere'
	@echo 'make test       all tests, those on real clusters too'
	@echo 'make test-long  simulations, property tests and deaths at length: SEEDS=n lives, CASES=n cases'
	@echo 'make bench      the figures of docs/performance.md'
	@echo 'make lint       rustfmt and clippy, warnings denied'
	@echo 'make deps       installs what the machine needs (root; called by demo and test)'

deps:
	@missing=; for need in $(NEEDS); do \
	  what=$${need%%:*}; command -v $$what >/dev/null || [ -e $$what ] || missing="$$missing $${need##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "make deps: as root: apt-get install$$missing" >&2; exit 1; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi
	@command -v cargo-nextest >/dev/null || cargo install --locked cargo-nextest

build:
	cargo build --locked --workspace --bins

demo: deps build
	@$(BUILD)/demo

demo-down: build
	@$(BUILD)/cluster --name demo down

# The programs are built first: the tests run them. `prepare` makes what all clusters share.
test: deps build
	@$(BUILD)/cluster down --abandoned
	base=$$($(BUILD)/cluster prepare) && \
	  ETCD_BINARY=$$base/usr/bin/etcd cargo nextest run --locked --workspace --run-ignored all

# What is random, at length: SEEDS lives of each simulation from FIRST_SEED on, CASES cases of each property. And the
# installer is killed at every point of what it does to a real Docker.
SEEDS ?= 20000
FIRST_SEED ?= 0
CASES ?= 20000
test-long: deps build
	SIMULATION_SEEDS=$(SEEDS) SIMULATION_FIRST_SEED=$(FIRST_SEED) cargo nextest run --locked --profile long \
	  -p calico-scheduler --test simulation --no-capture
	PROPTEST_CASES=$(CASES) cargo nextest run --locked --profile long -p calico-scheduler -p mesos-v1 \
	  --lib --test scheduler -E 'kind(lib) | test(fuzz::)'
	@$(BUILD)/cluster down --abandoned
	base=$$($(BUILD)/cluster prepare) && ETCD_BINARY=$$base/usr/bin/etcd CRASH_POINTS=all cargo nextest run --locked \
	  --profile long -p cluster --test product --run-ignored all docker_crashes:: --no-capture

# Built and prepared first, as for `test`: the figures are taken with a real etcd.
bench: deps build
	base=$$($(BUILD)/cluster prepare) && \
	  ETCD_BINARY=$$base/usr/bin/etcd cargo bench --locked --profile figures -p calico-scheduler --bench figures
	cargo bench --locked --profile release -p calico-installer --bench figures

lint:
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
