# make demo and make test need nothing but Go; the rest of the targets follow
# from them. make tools builds what make test would else skip.
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

.PHONY: build run demo test tools conformance race mutants lint fuzz bench bench-peers bench-exec clean

build: ## the binary, bin/usher
	go build -trimpath -ldflags '-s -w -X usher/internal/cli.version=$(VERSION)' -o bin/usher .

run: build ## the daemon in the foreground
	bin/usher serve

demo: build ## the whole story, in namespaces of its own
	go build -trimpath -o bin/demo/ ./testdata/payment ./testdata/clients/paymentclient ./testdata/demo/lookup
	go build -trimpath -o examples/shop/bin/ ./examples/shop/...
	testdata/demo/demo.sh bin/usher bin/demo

test: ## every test
	go test ./... ./testdata/bench ./testdata/conformance

# kubectl says of what version it is as usher does: that of k8s.io/api.
KUBERNETES = $(subst ., ,$(shell go list -m -f '{{.Version}}' k8s.io/api))
KUBECTL = -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(word 2,$(KUBERNETES)) \
  -X k8s.io/component-base/version.gitVersion=v1.$(word 2,$(KUBERNETES)).$(word 3,$(KUBERNETES))
tools: ## bin/kubectl, bin/clientgo and bin/coredns, without which some tests skip
	cd internal/tools/kubectl && go build -trimpath -ldflags '-s -w $(KUBECTL)' -o ../../../bin/ .
	cd internal/tools/clientgo && go build -trimpath -ldflags '-s -w' -o ../../../bin/ .
	cd internal/tools/coredns && go build -trimpath -ldflags '-s -w' -o ../../../bin/ .

conformance: ## the tests of docs/conformance.md, row by row
	go run ./testdata/conformance

race: ## every test but kubectl's with the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race -timeout 20m -skip '^TestKubectl$$' ./... ./testdata/bench ./testdata/conformance

mutants: ## breaks each promise of the data plane, one by one: the tests must notice
	USHER_MUTANTS=1 go test -count 1 -timeout 20m -run '^TestMutants$$' ./proxy

lint: ## formatting, vet on both systems, staticcheck, tidiness
	@test -z "$$(gofmt -l .)" || { echo 'not gofmt-ed:'; gofmt -l .; exit 1; }
	go vet ./... ./testdata/payment ./testdata/clients/paymentclient ./testdata/demo/lookup ./testdata/bench ./testdata/conformance
	GOOS=darwin go vet ./...
	go fix -diff ./...
	go mod tidy -diff
	$(TOOL) staticcheck ./...
	@for dir in kubectl clientgo coredns; do (cd internal/tools/$$dir && go mod tidy -diff && go vet -trimpath .) || exit 1; done

fuzz: ## each fuzz target for FUZZTIME
	@grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sort | while IFS=: read -r file func; do \
	  dir=$$(dirname "$$file") target=$${func#func }; \
	  echo "$$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null || exit 1; \
	done

bench: build ## the benchmarks: of the whole program, of its parts, and beside its peers
	go test -run '^$$' -bench . -benchmem . ./registry/... ./balancer/... ./proxy/... ./internal/dns/... ./internal/api
	$(DRIVER) -rounds $(ROUNDS) -time $(BENCHTIME)

bench-peers: build ## the full table beside HAProxy and nginx, about a quarter of an hour
	$(DRIVER) -rounds $(ROUNDS) -time $(BENCHTIME) -o bin/bench.jsonl

bench-exec: ROUNDS = 5
bench-exec: BENCHTIME = 2s
bench-exec: build ## programs under usher exec beside those without it, some three minutes
	go test -run '^$$' -bench Latency -benchtime 7x ./internal/direct
	go test -run '^$$' -bench Close -benchtime 2000x ./internal/direct
	$(DRIVER) -exec -rounds $(ROUNDS) -time $(BENCHTIME)

clean:
	rm -rf bin
