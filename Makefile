# Everything one needs, with git, make and Go. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
FUZZTIME    ?= 20s
BENCHTIME   ?= 1s
PKGS        ?= $(shell go list ./... | grep -v /cmd/e2e)
PEERTIME    ?= 5s

.PHONY: help build run demo test race peers lint bench bench-peers bench-page fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build .bin/macaroond and .bin/macaroon
	@mkdir -p .bin
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o .bin/ ./cmd/macaroond ./cmd/macaroon

run: build ## start the service on loopback, to try it out (data in .dev)
	@exec .bin/macaroond serve --dev --data-dir .dev $(ARGS)

demo: build ## play the whole story against a real server, a line for each step
	@go run ./cmd/demo

test: peers ## build and test everything, other people's software included
	@if [ -f .bin/not-proved ]; then echo; echo "NOT PROVED (missing on this machine):"; cat .bin/not-proved; echo; fi
	go test -timeout 15m -shuffle=on ./...
	@if [ -f .bin/not-proved ]; then echo; echo "NOT PROVED (missing on this machine):"; cat .bin/not-proved; fi

# SQLite's own C, translated to Go, is not looked into: it takes two thirds of the
# time. The driver above it is.
race: TRANSLATED = modernc.org/sqlite/lib modernc.org/libc/...
race: ## the tests under the race detector, but those of whole processes (make race PKGS=./... for all)
	go test -timeout 20m -race $(TRANSLATED:%=-gcflags=%=-race=false) -shuffle=on $(PKGS)

# peers installs the other implementations and gateways that the tests run,
# when it may; what is missing then is said loudly, and is an error in CI.
peers:
	@mkdir -p .bin; rm -f .bin/not-proved
	@missing() { echo "  $$1" >> .bin/not-proved; }; \
	have() { command -v "$$1" >/dev/null 2>&1; }; \
	want=(); \
	have nginx || [ -x /usr/sbin/nginx ] || want+=(nginx); \
	have caddy || want+=(caddy); \
	have chromium || want+=(chromium); \
	/usr/bin/python3 -c 'import pymacaroons' 2>/dev/null || want+=(python3-pymacaroons); \
	have node || want+=(nodejs); have npm || want+=(npm); have curl || want+=(curl); \
	if [ $${#want[@]} -gt 0 ] && [ "$$(id -u)" = 0 ] && have apt-get; then \
	  echo "installing $${want[*]}"; \
	  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$${want[@]}"; } >.bin/apt.log 2>&1 || tail -5 .bin/apt.log; \
	fi; \
	have nginx || [ -x /usr/sbin/nginx ] || missing "nginx: the gateway tests with auth_request"; \
	have caddy || missing "caddy: the gateway tests with forward_auth"; \
	/usr/bin/python3 -c 'import pymacaroons' 2>/dev/null || missing "python3-pymacaroons: interoperability with Python"; \
	have chromium || missing "chromium: browser mode, and pages of other origins that try to use its cookie"; \
	have curl || missing "curl: the examples of the API page and the README"; \
	if have npm; then (cd testdata/interop && npm ci --no-audit --no-fund --silent) || missing "npm macaroon, openid-client: interoperability with JavaScript"; \
	else missing "npm macaroon, openid-client: interoperability with JavaScript"; fi; \
	{ have npm && (cd testdata/browser && npm ci --no-audit --no-fund --silent); } || missing "npm playwright-core: browser mode in Chromium"; \
	if [ -f .bin/not-proved ] && [ -n "$${CI:-}" ]; then echo "in CI nothing may be skipped:"; cat .bin/not-proved; exit 1; fi

lint: ## vet, staticcheck, gofumpt, go.mod
	go vet ./...
	go run $(STATICCHECK) ./...
	@out=$$(go run $(GOFUMPT) -l . testdata/peers); if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi
	go mod tidy -diff
	go mod verify
	cd testdata/peers && go vet . && go mod tidy -diff

bench: ## benchmarks, side by side in one run
	@go test -p 2 -run '^$$' ./... > /dev/null # builds, so that nothing is built beside a measurement
	go test -p 1 -timeout 30m -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...
	@$(MAKE) --no-print-directory bench-peers

# bench-peers measures what one would otherwise take, in a module of its own.
bench-peers:
	@mkdir -p .bin; rm -f .bin/not-measured
	@if command -v npm >/dev/null 2>&1 && (cd testdata/peers && npm ci --no-audit --no-fund --silent); then :; \
	else echo "NOT MEASURED: oidc-provider (needs node and npm)" > .bin/not-measured; rm -rf testdata/peers/node_modules; fi
	@cd testdata/peers && go test -run '^$$' . > /dev/null && \
	  go list -m -f 'peer {{.Path}} {{.Version}}' gopkg.in/macaroon.v2 github.com/golang-jwt/jwt/v5 && \
	  (cd fosite && go build -o /dev/null . && go list -m -f 'peer {{.Path}} {{.Version}}' github.com/ory/fosite) && \
	  if [ -d node_modules ]; then echo "peer $$(npm ls --parseable --long oidc-provider | sed 's/.*://'), node $$(node --version)"; fi
	cd testdata/peers && go test -timeout 15m -run '^$$' -bench . -benchtime $(PEERTIME) .
	@if [ -f .bin/not-measured ]; then echo; cat .bin/not-measured; fi

bench-page: ## run the benchmarks and write their figures into docs/benchmarks.md
	@mkdir -p .bin
	@{ echo; echo "$$(date -u +%Y-%m-%d), $$(go version | cut -d' ' -f3,4), revision $$(git rev-parse --short HEAD), $$(nproc) cores of $$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)."; echo; echo '```'; } > .bin/figures
	@$(MAKE) --no-print-directory bench | grep -E '^(pkg:|Benchmark|peer )|NOT (MET|MEASURED)' | sed -E 's/[[:space:]]+/ /g; s/^.*NOT MET/NOT MET/' | tee -a .bin/figures
	@go test -count=1 -run TestLoginMemory -v ./cmd/e2e | grep -oE 'peak [0-9]+ MiB, limit [0-9]+ MiB|503 after .*' | sed 's/^/TestLoginMemory /' | tee -a .bin/figures
	@{ echo '```'; echo; } >> .bin/figures
	@awk '/<!-- figures -->/{print; while ((getline line < ".bin/figures") > 0) print line; skip=1} /<!-- \/figures -->/{skip=0} !skip' docs/benchmarks.md > .bin/page && cp .bin/page docs/benchmarks.md

fuzz: ## every fuzz target for FUZZTIME (20s)
	@n=0; for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    n=$$((n+1)); echo "== $$pkg $$target"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done; \
	echo "$$n fuzz targets"; [ $$n -gt 0 ]

clean: ## forget what was built and tried out
	rm -rf .bin .dev
