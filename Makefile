# Everything people and CI run. "make" alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
# Development tools have a module of their own, so that what they need does
# not weigh on go.mod.
TOOL    := $(GO) tool -modfile=tools/go.mod

# The race detector needs a C compiler on most systems: go itself knows.
RACE    := $(shell $(GO) list -race -f '' runtime >/dev/null 2>&1 && echo -race)

# How programs are built: static, and with their version from git.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags='-s -w' -o bin/

# Incompatible changes are those against the last release; before the first
# one, those that are not committed yet.
RELEASE := $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
BASE    := $(or $(RELEASE),HEAD)

##@ Use

.PHONY: run
run: ## Start the daemon with made-up traffic and a page to watch it on
	@echo 'building bin/peald; the first time modules are downloaded, and it takes a minute'
	@$(BUILD) ./cmd/peald && exec bin/peald --demo

.PHONY: build
build: ## Build bin/peald and bin/pealctl, which know their version from git
	@echo 'building bin/peald and bin/pealctl; the first time modules are downloaded, and it takes a minute'
	$(BUILD) ./cmd/peald ./cmd/pealctl

.PHONY: manual
manual: ## Write man pages, shell completions and a file of all settings into bin/
	@mkdir -p bin/man bin/completions
	$(GO) test -count=1 -run='^TestManPages$$' ./cmd/peald ./cmd/pealctl -man="$$PWD/bin/man"
	@for command in peald pealctl; do \
		for shell in bash zsh fish; do \
			$(GO) run ./cmd/$$command completion $$shell >"bin/completions/$$command.$$shell"; \
		done; \
	done
	$(GO) run ./cmd/peald config --defaults >bin/peald.yaml

##@ Develop

# How many packages are tested at a time.
PACKAGES := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 4 ? n : 4)))

# The packages whose tests take longest start first, so that the rest fills
# the processors while these wait.
SLOW     := ./internal/cluster ./e2e ./e2e/load ./e2e/clients ./e2e/proxies ./daemon

.PHONY: test
test: ## Run all tests, with the race detector where there is a C compiler
ifeq ($(RACE),)
	@echo 'make test: no C compiler (gcc or clang) found, so the tests run without the race detector'
endif
	@$(MAKE) --no-print-directory --jobs=2 --keep-going test-module test-deploy test-openapi

.PHONY: test-module
test-module:
# More packages at a time than there are processors on small machines, since
# tests of clusters and of browsers mostly wait.
	$(GO) test $(RACE) -p=$(PACKAGES) -shuffle=on -timeout=15m $(TESTFLAGS) $(SLOW) ./...

.PHONY: test-deploy
test-deploy:
# What these read lies beside their module, so go can't tell when it has changed.
	$(GO) -C deploy/checks test -count=1 -shuffle=on -timeout=15m $(TESTFLAGS) ./...

.PHONY: test-openapi
test-openapi:
	$(GO) -C e2e/openapi test $(RACE) -shuffle=on -timeout=15m $(TESTFLAGS) ./...

# How long to soak, both engines and both policies for slow streams together.
SOAK    ?= 10m

.PHONY: soak
soak: ## Let clients of all kinds come and go for ten minutes, then see that nothing is left of them
	SOAK=$(SOAK) $(GO) test $(RACE) -count=1 -timeout=0 -v -run='^TestSoak$$' ./e2e/load

.PHONY: drain
drain: ## End a daemon that holds 10,000 streams, and see that they end evenly and whole
	DRAIN=10000 $(GO) test -count=1 -v -run='^TestDrain$$' ./e2e/load

.PHONY: soak-cluster
soak-cluster: ## Let nodes of a cluster die, stall and restart for ten minutes, under 500 messages a second to 3,000 clients; NODES=5 for five
	SOAK_CLUSTER=$(SOAK) NODES=$(NODES) $(GO) test -count=1 -timeout=0 -v -run='^TestClusterLosesNothing$$' ./e2e/load
	SOAK_CLUSTER=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestADamagedFileOfAReplica$$' ./internal/cluster

.PHONY: bench
bench: ## Compare peald with other servers for a quarter of an hour, and write docs/benchmarks.md
	$(GO) -C bench run ./compare -docs=../docs

.PHONY: bench-quick
bench-quick: ## The same in three minutes, with fewer streams; shows the tables
	$(GO) -C bench run ./compare -quick

.PHONY: bench-cluster
bench-cluster: ## Broadcast through a cluster of five daemons with 75,000 streams, and write docs/benchmarks-cluster.md
	$(GO) -C bench run ./compare -nodes=5 -docs=../docs

.PHONY: gen
gen: ## Generate gen/ and control/openapi/ from proto/
	$(TOOL) buf generate
	$(GO) -C tools run ./openapi3 <control/openapi/peald.swagger.json >control/openapi/peald.openapi.json

.PHONY: pictures
pictures: ## Take the console's pictures in docs/img/ anew, with Chromium
	$(GO) test -count=1 -v -run='^TestConsolePictures$$' ./e2e -update

.PHONY: fmt
fmt: ## Format Go and proto files
	$(TOOL) golangci-lint fmt
	$(TOOL) buf format -w

##@ Check

.PHONY: check
check: check-format check-vet check-lint check-proto check-gen check-tidy check-cross check-vuln ## Run every check below

.PHONY: check-format
check-format: ## Go and proto files are formatted
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [[ -n $$unformatted ]]; then \
		echo "make check-format: not formatted (make fmt does it):"; echo "$$unformatted"; exit 1; \
	fi
	$(TOOL) buf format --diff --exit-code

.PHONY: check-vet
check-vet: ## go vet
	$(GO) vet ./...
	$(GO) -C bench vet ./...
	$(GO) -C deploy/checks vet ./...
	$(GO) -C e2e/openapi vet ./...
	$(GO) -C e2e/clients/testdata/go vet ./...
	$(GO) -C tools vet ./...

.PHONY: check-lint
check-lint: ## golangci-lint, by .golangci.yml
	$(TOOL) golangci-lint run
	cd bench && $(GO) tool -modfile=../tools/go.mod golangci-lint run
	cd deploy/checks && $(GO) tool -modfile=../../tools/go.mod golangci-lint run
	cd e2e/openapi && $(GO) tool -modfile=../../tools/go.mod golangci-lint run

.PHONY: check-glossary
check-glossary: ## Texts use the project's terms, one for each thing
	@$(GO) -C tools run ./glossary

.PHONY: check-proto
check-proto: ## buf lint, and no breaking change since the last release
	$(TOOL) buf lint
	@echo 'make check-proto: incompatible changes since $(BASE)$(if $(RELEASE),, (there is no release yet))'
	git archive $(BASE) buf.yaml proto | $(TOOL) buf breaking --against '-#format=tar'

.PHONY: check-gen
check-gen: ## gen/ and control/openapi/ are what proto/ generates
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(TOOL) buf generate -o "$$fresh"; \
	openapi="$$fresh/control/openapi"; \
	$(GO) -C tools run ./openapi3 <"$$openapi/peald.swagger.json" >"$$openapi/peald.openapi.json"; \
	for dir in gen control/openapi; do \
		diff -r "$$dir" "$$fresh/$$dir" || { echo "make check-gen: $$dir is stale: run make gen and commit it"; exit 1; }; \
	done

.PHONY: check-tidy
check-tidy: ## go.mod and go.sum are tidy, here and in the modules below
	$(GO) mod tidy -diff
	$(GO) -C bench mod tidy -diff
	$(GO) -C deploy/checks mod tidy -diff
	$(GO) -C e2e/openapi mod tidy -diff
	$(GO) -C e2e/clients/testdata/go mod tidy -diff
	$(GO) -C tools mod tidy -diff

.PHONY: check-cross
check-cross: ## The code, tests included, compiles for macOS, and the programs for Windows
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build ./...

.PHONY: check-vuln
check-vuln: ## govulncheck, where its database can be reached
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	if $(TOOL) govulncheck ./... 2>&1 | tee "$$log"; then exit 0; fi; \
	if grep -q '^govulncheck: fetching vulnerabilities:' "$$log"; then \
		echo 'make check-vuln: NOT CHECKED: the vulnerability database cannot be reached from here'; exit 0; \
	fi; \
	exit 1

##@ Help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
