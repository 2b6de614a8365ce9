# The front door. Everything builds with the pinned compiler (rust-toolchain.toml) and the committed Cargo.lock.
SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c
CARGO = cargo
# Where cargo builds.
TARGET = $(or $(CARGO_TARGET_DIR),target)
STATIC = $(TARGET)/x86_64-unknown-linux-musl/release/teleport-pipe

.PHONY: help demo test check container-test lint static image image-test reproducible bench conformance audit prepare

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo: ## a cluster, a step's token, the pipe, and ssh through it: see it work
	@tests/prepare demo
	$(CARGO) build --locked --quiet --bin teleport-pipe
	$(CARGO) run --locked --quiet -p testcluster --bin demo -- $(TARGET)/debug/teleport-pipe

test: prepare ## every test; the last line counts them
	@tests/ssh-libraries $(TARGET)/ssh-libraries
	@mkdir -p $(TARGET)
	@status=0; $(CARGO) test --workspace --locked --no-fail-fast 2>&1 | tee $(TARGET)/test.log || status=$$?; \
	awk '/^test result:/ { p += $$4; f += $$6; s += $$8 } \
		END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' $(TARGET)/test.log; exit $$status

check: prepare ## formatting, lints, unit tests and the fast stories, before each commit
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings
	STORIES=fast $(CARGO) test --locked --lib --test it -- --quiet

container-test: ## `make test` in a container without privileges, as root and as an ordinary user (needs root)
	@tests/container

lint: prepare ## formatting, lints, documentation, the YAML in the documents
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@! grep -rnE --include='*.rs' '#\[(tokio::)?test\b' tests # does nothing there: the harness wants `stories!`
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked --quiet
	@tests/snippets $(TARGET)/snippets
	@tests/words
	@tests/architecture

static: ## the static binary for x86_64, and its size
	@release/binary amd64
	@$(STATIC) version
	@tests/size $(STATIC)

image: ## the image for two platforms (target/oci), and the release's binaries (target/release-artifacts)
	@tests/prepare image
	@release/image
	@release/artifacts

image-test: prepare ## the image, run as Bitbucket runs it (needs root; starts an engine where none runs)
	@tests/image/run

reproducible: ## builds the image twice, in two directories, and compares (10 minutes)
	@tests/prepare image
	@release/reproducible

# `make bench BENCH='--quick join'` prints only the table of joins, of fewer runs; `make bench BENCH=--help` lists all names.
bench: ## joins and ssh beside other clients, into docs/performance.md (needs `make static`, TELEPORT_PEER)
	$(CARGO) run --locked --release --quiet -p bench -- --binary $(STATIC) $(BENCH)

conformance: ## the binary against a cluster of Teleport's own code (needs TELEPORT_PEER, see CONTRIBUTING.md)
	$(CARGO) build --locked --quiet --bin teleport-pipe
	@tests/conformance $(TARGET)/debug/teleport-pipe

audit: ## known vulnerabilities of the dependencies (needs a network and cargo-deny)
	@release/audit

prepare:
	@tests/prepare
