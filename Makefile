# rk: Kubernetes in rootless containers. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The tags that keep cgo out of the Podman bindings. Build, test and lint share them.
TAGS := remote exclude_graphdriver_btrfs btrfs_noversion exclude_graphdriver_devicemapper containers_image_openpgp
export TAGS

# A newer Go than the machine's own, when hack/setup.sh had to fetch one.
export PATH := $(CURDIR)/bin/goroot/bin:$(PATH)

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
PKG     := github.com/rootless-kubernetes/rk
LDFLAGS := -s -w -X $(PKG)/pkg/cli.version=$(VERSION) -X $(PKG)/pkg/cli.commit=$(COMMIT)

.PHONY: help
help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup-%
setup-%: ## Install what `build`, `test`, `lint`, `image` or `e2e` needs (as root), or say what to install.
	@hack/setup.sh $*

.PHONY: build
build: setup-build ## Build bin/rk, a static binary.
	CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/rk ./cmd/rk

.PHONY: test
test: setup-test ## Run the unit, CLI and fake-engine tests with the race detector.
	go vet -tags '$(TAGS)' ./...
	set -o pipefail; go test -race -timeout 20m -tags '$(TAGS)' -v ./... 2>&1 | hack/filter-test-output.sh

.PHONY: lint
lint: setup-lint ## Run the linters and check that generated files are up to date.
	hack/lint.sh

.PHONY: fuzz
fuzz: setup-test ## Run every fuzz target for FUZZTIME each (5s unless given).
	hack/fuzz.sh

.PHONY: cluster
cluster: ## Set everything up and end with `kubectl get nodes` of a three-node cluster.
	@hack/cluster.sh

.PHONY: e2e
e2e: setup-e2e build ## Run real clusters on disposable test hosts (needs root).
	hack/e2e.sh

.PHONY: e2e-vm
e2e-vm: setup-e2e-vm build ## Run what needs delegated cgroup controllers in a virtual machine (needs root).
	hack/e2e-vm.sh

.PHONY: bench
bench: setup-e2e build ## Measure cluster creation as a ratio to a bare API server's start (needs root).
	hack/bench.sh

.PHONY: man
man: build ## Write manual pages into bin/man/man1.
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) bin/rk man bin/man/man1 >/dev/null

.PHONY: clean
clean: ## Remove what was built in this tree (caches stay).
	rm -rf bin _output
