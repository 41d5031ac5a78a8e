# All tasks for developers and CI. "make" without a target lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
# Development tools are in a separate module to keep their dependencies out of
# go.mod.
TOOL    := $(GO) tool -modfile=tools/go.mod

# The race detector needs a C compiler on most systems; go list fails without one.
RACE    := $(shell $(GO) list -race -f '' runtime >/dev/null 2>&1 && echo -race)

# Programs are linked statically and get their version from git. Without grpcnotrace,
# gRPC's use of x/net/trace makes the linker keep all methods: 16 MB more.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -tags=grpcnotrace -ldflags='-s -w' -o bin/

# Incompatible changes are relative to the last release or, before the first
# release, to HEAD.
RELEASE := $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)
BASE    := $(or $(RELEASE),HEAD)

##@ Use

# COUNT replaces the output of go build -v by one line that counts downloaded
# modules and compiled packages. Errors pass through. Without a terminal it
# prints a line for every hundredth.
define COUNT
{ \
	modules=0 packages=0 total=; \
	count() { if [[ -t 1 ]]; then printf '\r\033[K%s' "$$1"; elif (( $$2 % 100 == 1 )); then echo "$$1"; fi; }; \
	while IFS= read -r line; do \
		case $$line in \
		'go: downloading '*) \
			count "downloading modules: $$((++modules))" "$$modules" ;; \
		*[[:space:]:]*) \
			if [[ -t 1 ]]; then printf '\r\033[K'; fi; echo "$$line" ;; \
		*) \
			total=$${total:-$$(CGO_ENABLED=0 $(GO) list -deps $(1) | wc -l)}; \
			count "compiling packages: $$((++packages)) of at most $$total" "$$packages" ;; \
		esac; \
	done; \
	if [[ -t 1 ]]; then printf '\r\033[K'; fi; \
}
endef

.PHONY: run
run: ## Build bin/peald and start it with made-up traffic and a demo page
	@echo 'building bin/peald; the first build downloads modules and takes one to three minutes'
	@$(BUILD) -v ./cmd/peald 2>&1 | $(call COUNT,./cmd/peald)
	@exec bin/peald --demo

.PHONY: build
build: ## Build bin/peald and bin/pealctl with their version from git
	@echo 'building bin/peald and bin/pealctl; the first build downloads modules and takes one to three minutes'
	@$(BUILD) -v ./cmd/peald ./cmd/pealctl 2>&1 | $(call COUNT,./cmd/peald ./cmd/pealctl)

.PHONY: manual
manual: ## Write man pages, shell completions and a file with all settings to bin/
	@mkdir -p bin/man bin/completions
	$(GO) test -count=1 -run='^TestManPages$$' ./cmd/peald ./cmd/pealctl -man="$$PWD/bin/man"
	@for command in peald pealctl; do \
		for shell in bash zsh fish; do \
			$(GO) run ./cmd/$$command completion $$shell >"bin/completions/$$command.$$shell"; \
		done; \
	done
	$(GO) run ./cmd/peald config --defaults >bin/peald.yaml

##@ Develop

# How many packages are tested concurrently.
PACKAGES := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n > 4 ? n : 4)))

# The packages with the longest tests start first, so that the other packages
# use the CPUs while these wait.
SLOW     := ./internal/cluster ./e2e ./e2e/load ./e2e/clients ./e2e/proxies ./internal/bench ./daemon

# Programs built with the race detector would sleep for a second when they exit.
export GORACE := atexit_sleep_ms=0

.PHONY: test
test: ## Run all tests, with the race detector if there is a C compiler
ifeq ($(RACE),)
	@echo 'make test: no C compiler (gcc or clang) found, so the tests run without the race detector'
endif
	@$(MAKE) --no-print-directory --jobs=2 --keep-going test-module test-deploy test-openapi test-tools

.PHONY: test-module
test-module:
# On small machines, more packages than CPUs run concurrently, because tests of
# clusters and browsers mostly wait.
# Without debugging information (-w), the programs are linked in half the time. Vet
# runs in check-vet; here, it would analyze all dependencies, too.
	$(GO) test $(RACE) -vet=off -ldflags=-w -p=$(PACKAGES) -shuffle=on -timeout=15m $(TESTFLAGS) $(SLOW) ./...

.PHONY: test-deploy
test-deploy:
# -count=1, because go doesn't cache by the files outside this module.
	$(GO) -C deploy/checks test -vet=off -count=1 -shuffle=on -timeout=15m $(TESTFLAGS) ./...

.PHONY: test-openapi
test-openapi:
	$(GO) -C e2e/openapi test $(RACE) -vet=off -ldflags=-w -shuffle=on -timeout=15m $(TESTFLAGS) ./...

.PHONY: test-tools
test-tools:
	$(GO) -C tools test -vet=off -shuffle=on $(TESTFLAGS) ./...

# The duration of soak tests: the sum over both engines and both slow-consumer
# policies.
SOAK    ?= 10m

.PHONY: soak
soak: ## Connect and disconnect clients of all kinds for ten minutes (SOAK=10m), then check for leaks; then open 10,000 pages; then hold 15,000 polls; then open 10,000 tabs that share 2,000 streams; then cut browsers' network for 20 s; then test all pages in all browsers; then test the JavaScript client's properties 4,000 times
	SOAK=$(SOAK) $(GO) test $(RACE) -count=1 -timeout=0 -v -run='^TestSoak$$' ./e2e/load
	SOAK=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestPages$$' ./e2e/load
	SOAK=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestPolls$$' ./e2e/load
	SOAK=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestTabs$$' ./e2e/load
	SOAK=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestJavaScriptClientInBrowsers$$' ./e2e
	SOAK=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^Test(Browser|BrowserResumes|Console|DemoPage|JavaScriptTabs|OraclesAgree|PageSnippet|PageThatLoadsItsState|Page|Answer|Gaps|Forgotten)$$' ./e2e ./examples ./examples/llm
	RUNS=1000 $(GO) test -count=1 -timeout=0 -v -run='^TestClient$$' ./internal/jsclient

.PHONY: soak-matrix
soak-matrix: ## Test what make test covers in part: plain use and older versions of client libraries, every browser and hop behind proxies, handovers with 300 streams, every transport of the load generator (about five minutes)
	SOAK=$(SOAK) $(GO) test $(RACE) -count=1 -v -run='^TestClients$$' ./e2e/clients
	SOAK=$(SOAK) $(GO) test $(RACE) -count=1 -v -run='^(TestBrowsers|TestHops)$$' ./e2e/proxies
	SOAK=$(SOAK) $(GO) test $(RACE) -count=1 -v -run='^TestHandOver$$' ./e2e/load
	SOAK=$(SOAK) $(GO) test $(RACE) -count=1 ./internal/bench

.PHONY: drain
drain: ## Drain a daemon with 10,000 streams; check that they are closed at an even rate and complete
	DRAIN=10000 $(GO) test -count=1 -v -run='^TestDrain$$' ./e2e/load

.PHONY: soak-cluster
soak-cluster: ## Kill, stall and restart cluster nodes for ten minutes, with 3,000 clients and 500 messages/s (NODES=3), then with 1,000 retained values/s, then with webhooks for 2,000 users
	SOAK_CLUSTER=$(SOAK) NODES=$(NODES) $(GO) test -count=1 -timeout=0 -v -run='^TestClusterLosesNothing$$' ./e2e/load
	SOAK_CLUSTER=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestClusterKeepsRetainedValues$$' ./e2e/load
	HOOKS=2000 $(GO) test -count=1 -timeout=0 -v -run='^TestHooksUnderLoad$$' ./e2e/load
	SOAK_CLUSTER=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestDamagedFilesOfReplica$$' ./internal/cluster
	SOAK_CLUSTER=$(SOAK) $(GO) test -count=1 -timeout=0 -v -run='^TestClusterProperties$$' ./internal/cluster

.PHONY: soak-sources
soak-sources: ## Publish 100,000 messages from an outbox, Kafka, NATS and Redis while nodes, servers and connections fail (about 35 minutes)
	SOAK_OUTBOX=100000 $(GO) test -count=1 -timeout=0 -v -run='^TestOutboxLosesNothing$$' ./e2e/load
	SOAK_KAFKA=100000 $(GO) test -count=1 -timeout=0 -v -run='^TestKafkaLosesNothing$$' ./e2e/load
	SOAK_NATS=100000 $(GO) test -count=1 -timeout=0 -v -run='^TestNATSLosesNothing$$' ./e2e/load
	SOAK_REDIS=100000 $(GO) test -count=1 -timeout=0 -v -run='^TestRedisLosesNothing$$' ./e2e/load

.PHONY: bench
bench: ## Compare peald with other servers (30 minutes) and write docs/benchmarks.md
	$(GO) -C bench run ./compare -docs=../docs

.PHONY: bench-quick
bench-quick: ## Compare with fewer streams (6 minutes) and print the tables
	$(GO) -C bench run ./compare -quick

.PHONY: bench-cluster
bench-cluster: ## Broadcast through a cluster of five daemons with 75,000 streams and write docs/benchmarks-cluster.md
	$(GO) -C bench run ./compare -nodes=5 -docs=../docs

.PHONY: gen
gen: ## Generate gen/ and control/openapi/ from proto/
	$(TOOL) buf generate
	$(GO) -C tools run ./openapi3 ../control/openapi

.PHONY: client
client: ## Bundle the JavaScript client into internal/jsclient/peald.js
	npm --prefix clients/js ci --ignore-scripts --no-audit --no-fund --prefer-offline
	npm --prefix clients/js run --silent bundle

.PHONY: pictures
pictures: ## Retake the console's screenshots in docs/img/ with Chromium
	$(GO) test -count=1 -v -run='^TestConsolePictures$$' ./e2e -update

.PHONY: fmt
fmt: ## Format Go and proto files
	$(TOOL) golangci-lint fmt
	$(TOOL) buf format -w

##@ Check

.PHONY: check
check: check-format check-vet check-lint check-glossary check-proto check-gen check-client check-tidy check-cross check-size check-cpp check-vuln ## Run every check below

.PHONY: check-format
check-format: ## Check that Go and proto files are formatted
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [[ -n $$unformatted ]]; then \
		echo "make check-format: not formatted (make fmt does it):"; echo "$$unformatted"; exit 1; \
	fi
	$(TOOL) buf format --diff --exit-code

.PHONY: check-vet
check-vet: ## Run go vet
	$(GO) vet ./...
	$(GO) -C bench vet ./...
	$(GO) -C deploy/checks vet ./...
	$(GO) -C e2e/openapi vet ./...
	$(GO) -C e2e/clients/testdata/go vet ./...
	$(GO) -C tools vet ./...

.PHONY: check-lint
check-lint: ## Run golangci-lint with .golangci.yml
	$(TOOL) golangci-lint run
	cd bench && $(GO) tool -modfile=../tools/go.mod golangci-lint run
	cd deploy/checks && $(GO) tool -modfile=../../tools/go.mod golangci-lint run
	cd e2e/openapi && $(GO) tool -modfile=../../tools/go.mod golangci-lint run

.PHONY: check-glossary
check-glossary: ## Check that texts use the project's terms
	@$(GO) -C tools run ./glossary

.PHONY: check-proto
check-proto: ## Run buf lint and check for breaking changes since the last release
	$(TOOL) buf lint
	@echo 'make check-proto: incompatible changes since $(BASE)$(if $(RELEASE),, (there is no release yet))'
	git archive $(BASE) buf.yaml proto | $(TOOL) buf breaking --against '-#format=tar'

.PHONY: check-gen
check-gen: ## Check that gen/ and control/openapi/ are up to date with proto/
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(TOOL) buf generate -o "$$fresh"; \
	openapi="$$fresh/control/openapi"; \
	$(GO) -C tools run ./openapi3 "$$openapi"; \
	for dir in gen control/openapi; do \
		diff -r "$$dir" "$$fresh/$$dir" || { echo "make check-gen: $$dir is stale: run make gen and commit it"; exit 1; }; \
	done

.PHONY: check-client
check-client: ## Check the JavaScript client: types, documentation, size, packaging
	@if ! { command -v node && command -v npm; } >/dev/null; then \
		echo 'make check-client: SKIPPED: node or npm is missing'; [[ -z $${CI:-} ]]; exit; \
	fi; \
	if [[ ! clients/js/node_modules/.package-lock.json -nt clients/js/package-lock.json ]]; then \
		npm --prefix clients/js ci --ignore-scripts --no-audit --no-fund --prefer-offline; \
	fi; \
	npm --prefix clients/js run --silent check -- ../../internal/jsclient/peald.js

.PHONY: check-tidy
check-tidy: ## Check that go.mod and go.sum are tidy in all modules
	$(GO) mod tidy -diff
	$(GO) -C bench mod tidy -diff
	$(GO) -C deploy/checks mod tidy -diff
	$(GO) -C e2e/openapi mod tidy -diff
	$(GO) -C e2e/clients/testdata/go mod tidy -diff
	$(GO) -C tools mod tidy -diff

.PHONY: check-cross
check-cross: ## Check that code and tests compile for macOS, and the programs for Windows
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build ./...

.PHONY: check-size
check-size: build ## Check that the linker removes unused code, as it does unless methods are called by name
	@size=$$(stat -c %s bin/peald 2>/dev/null || stat -f %z bin/peald); \
	if ((size > 45000000)); then \
		echo "make check-size: bin/peald has $$size bytes, more than 45,000,000; see BUILD in the Makefile"; exit 1; \
	fi

.PHONY: check-cpp
check-cpp: ## Build and run the C++ example if gRPC's C++ library is installed
	EXAMPLE_CPP=1 $(GO) test -count=1 -v -run='^TestCPP$$' ./examples

.PHONY: check-vuln
check-vuln: ## Run govulncheck if its database is reachable
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	if $(TOOL) govulncheck ./... 2>&1 | tee "$$log"; then exit 0; fi; \
	if grep -q '^govulncheck: fetching vulnerabilities:' "$$log"; then \
		echo 'make check-vuln: SKIPPED: the vulnerability database is not reachable'; exit 0; \
	fi; \
	exit 1

##@ Help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
