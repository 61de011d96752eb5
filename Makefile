# Every command of this repository; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/quorate
# Outside the clone, so that a fresh clone compiles only what changed.
CARGO_TARGET_DIR ?= $(CACHE)/target
export CARGO_TARGET_DIR
# Nothing here is interactive, and colours end up in logs.
export CARGO_TERM_PROGRESS_WHEN ?= never

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
TARGET ?= $(shell uname -m)-unknown-linux-gnu
BINARY := $(CARGO_TARGET_DIR)/$(TARGET)/release/quorate
# The name of the image. `make install` puts the content's hash in the tag, so that the same content restarts nothing.
IMAGE ?= quorate:$(VERSION)
IMAGE_TAR ?= $(CACHE)/quorate-image.tar
NAMESPACE ?= quorate-system
NODES ?= 3
# Of the simulator: `make check` takes a minute and a half of them on two cores, `make soak` a quarter to half an hour, see
# docs/soak.md.
SEEDS ?=
# Of `make bench`: how often each side is measured.
ROUNDS ?= 3
# Which tests of tests/e2e and tests/etcd run; all when empty.
TESTS ?=

CLIPPY := cargo clippy --locked --all-targets -- -D warnings
# Each kind of test is a binary of its own; what a branch does not have yet is left out.
HAVE = $(if $(wildcard tests/$(1)/main.rs),$(2))
STAGES ?= $(CACHE)/stages.$(shell echo $$PPID)
STAGE := STAGES=$(STAGES) hack/stage
LAB := lab/lab

##@ Try

demo: deps ## An upgrade under load, before your eyes. CONTEXT=name IMAGE=… uses a cluster of your kubeconfig.
	demo/demo

install: $(if $(CONTEXT),,build) ## Build the image, load it into the lab, install the chart there. Again and again without harm.
	hack/install

uninstall: ## Remove the operator from the lab. Clusters and their data stay.
	eval "$$($(LAB) env)"
	helm uninstall quorate -n $(NAMESPACE) --ignore-not-found --wait

##@ Test

check: deps ## All that needs no lab: format, lints, unit tests, simulator, real etcd binaries, what is generated.
	rm -f $(STAGES); trap '$(STAGE) --summary' EXIT
	$(STAGE) fmt cargo fmt --check
	$(STAGE) helm $(LAB) helm
	$(STAGE) clippy $(CLIPPY)
	$(STAGE) unit cargo test --locked --quiet --lib --bins
	export HELM=$$($(LAB) helm)
	$(STAGE) generated cargo test --locked --quiet --test generated
	$(call HAVE,sim,$(STAGE) simulator env $(if $(SEEDS),SIM_SEEDS=$(SEEDS)) cargo test --locked --quiet --test sim)
	$(call HAVE,etcd,$(STAGE) etcd-build hack/etcd-versions)
	$(call HAVE,etcd,$(STAGE) etcd cargo test --locked --quiet --test etcd $(TESTS))
	$(STAGE) shellcheck hack/shellcheck
	$(STAGE) chart "$$HELM" lint --strict --quiet charts/quorate

test: ## Everything: check, then the operator on a real Kubernetes. Needs root.
	$(MAKE) check
	$(MAKE) e2e

e2e: deps ## The lab, the operator in it, and the end-to-end tests. TESTS=name runs some.
	rm -f $(STAGES); trap '$(STAGE) --summary' EXIT
	$(STAGE) lab $(LAB) up --nodes $(NODES)
	eval "$$($(LAB) env)"
	$(STAGE) build $(MAKE) build
	$(call HAVE,e2e,$(STAGE) etcd-images hack/etcd-versions --images)
	$(call HAVE,e2e,$(STAGE) e2e cargo test --locked --test e2e -- --test-threads=3 $(TESTS))

soak: deps ## What takes longer than a change may wait for. The dated result belongs into docs/soak.md.
	rm -f $(STAGES); trap '$(STAGE) --summary' EXIT
	$(STAGE) lab-test lab/test.sh
	$(call HAVE,sim,$(STAGE) simulator env SIM_SEEDS=$(or $(SEEDS),160000) cargo test --locked --test sim -- --include-ignored)
	$(call HAVE,etcd,$(STAGE) etcd-build hack/etcd-versions)
	$(call HAVE,etcd,$(STAGE) etcd cargo test --locked --test etcd -- --include-ignored)
	$(call HAVE,e2e,$(STAGE) lab $(LAB) up --nodes $(NODES))
	eval "$$($(LAB) env)"
	$(call HAVE,e2e,$(STAGE) build $(MAKE) build)
	$(call HAVE,e2e,$(STAGE) etcd-images hack/etcd-versions --images)
	$(call HAVE,e2e,$(STAGE) e2e cargo test --locked --test e2e -- --test-threads=1 --include-ignored)

# Installed without replicas: the operator that is measured is a process of this machine, and there may be no second one.
bench: deps image ## The figures of docs/benchmarks.md: Quorate beside a plain StatefulSet, on the lab. ROUNDS=n
	$(LAB) up --nodes $(NODES)
	eval "$$($(LAB) env)"
	hack/install --set replicaCount=0
	kubectl wait --for=delete pod -l app.kubernetes.io/name=quorate -A --timeout=1m
	$(LAB) image etcd 3.5.9
	$(LAB) image etcd 3.5.10
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin bench --target $(TARGET)
	$(dir $(BINARY))bench --rounds $(ROUNDS) --operator $(BINARY) --operator-log $(CACHE)/bench-operator.log --image $(IMAGE_TAR) \
	  --audit-log $$(dirname $$KUBECONFIG)/nodes/node-1/log/kubernetes/audit.log --docs docs/benchmarks.md
	echo "The lab stays up, its operator without replicas: make install starts it again."

##@ Build

build: deps ## The operator, static and optimised.
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin quorate --target $(TARGET)

image: build ## The operator's image as a docker-archive, without Docker. IMAGE=name IMAGE_TAR=file.
	hack/image $(BINARY) $(IMAGE) $(IMAGE_TAR)
	printf '%s in %s, %d KiB\n' $(IMAGE) $(IMAGE_TAR) $$(($$(stat -c %s $(IMAGE_TAR)) / 1024))

generate: deps ## Rewrite all that is generated from the code: crds/, deploy/, parts of the chart and of docs/.
	export HELM=$$($(LAB) helm)
	# Twice: deploy/ is rendered from the chart, parts of which the first pass may just have rewritten.
	for _ in 1 2; do UPDATE=1 cargo test --locked --quiet --test generated; done
	git status --short crds deploy charts docs

fmt: ## Format the code.
	cargo fmt

lint: deps ## Lints alone.
	cargo fmt --check
	$(CLIPPY)
	hack/shellcheck
	if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed; deny.toml is not checked"; fi

##@ Tidy

deps: ## What the build needs from Debian, installed when it is missing (root).
	hack/deps

clean: ## Take the lab down and remove what was compiled. What the lab built stays (~/.cache/quorate-lab).
	$(LAB) down
	cargo clean
	rm -f $(IMAGE_TAR)

help: ## This list.
	awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' Makefile)
.SILENT:
