# make demo and make test need nothing but Go; the rest of the targets follow
# from them.
export CGO_ENABLED = 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
TOOL = go tool -modfile=internal/tools/go.mod
FUZZTIME ?= 10s
DRIVER = go build -trimpath -o bin/bench ./testdata/bench && bin/bench -usher bin/usher
# How often each peer of the benchmark has its turn, and how long that is.
ROUNDS = 1
BENCHTIME = 1s
bench-peers: ROUNDS = 5
bench-peers: BENCHTIME = 2s

.PHONY: build run demo test conformance race mutants lint fuzz bench bench-peers clean

build: ## the binary, bin/usher
	go build -trimpath -ldflags '-s -w -X usher/internal/cli.version=$(VERSION)' -o bin/usher .

run: build ## the daemon in the foreground
	bin/usher serve

demo: build ## the whole story, in namespaces of its own
	go build -trimpath -o bin/demo/ ./testdata/payment ./testdata/clients/paymentclient ./testdata/demo/lookup
	testdata/demo/demo.sh bin/usher bin/demo

test: ## every test
	go test ./... ./testdata/bench ./testdata/conformance

conformance: ## the tests of docs/conformance.md, row by row
	go run ./testdata/conformance

race: ## every test with the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race ./... ./testdata/bench ./testdata/conformance

mutants: ## breaks each promise of the data plane, one by one: the tests must notice
	USHER_MUTANTS=1 go test -count 1 -timeout 20m -run '^TestMutants$$' ./proxy

lint: ## formatting, vet on both systems, staticcheck, tidiness
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	go vet ./... ./testdata/payment ./testdata/clients/paymentclient ./testdata/demo/lookup ./testdata/bench ./testdata/conformance
	GOOS=darwin go vet ./...
	go fix -diff ./...
	go mod tidy -diff
	$(TOOL) staticcheck ./...

fuzz: ## each fuzz target for FUZZTIME
	@grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sort | while IFS=: read -r file func; do \
	  dir=$$(dirname "$$file") target=$${func#func }; \
	  echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null || exit 1; \
	done

bench: build ## the benchmarks: of the whole program, of its parts, and beside its peers
	go test -run '^$$' -bench . -benchmem . ./registry/... ./balancer/... ./proxy/... ./internal/dns/...
	$(DRIVER) -rounds $(ROUNDS) -time $(BENCHTIME)

bench-peers: build ## the full table beside HAProxy and nginx, about a quarter of an hour
	$(DRIVER) -rounds $(ROUNDS) -time $(BENCHTIME) -o bin/bench.jsonl

clean:
	rm -rf bin
