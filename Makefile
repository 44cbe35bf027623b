# What there is to make: `make help`.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
export CGO_ENABLED = 0

.PHONY: build demo test guest torture bench lint generate capture clean help

build: ## bin/dayfly, for this machine
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/dayfly ./cmd/dayfly

demo: build ## start a server, deploy the examples, call them, stop
	./test/demo.sh

test: ## install what the tests need, and run all of them
	./test/run.sh

guest: ## the sandbox driver's tests in a virtual machine with cgroup v2
	./test/guest.sh

torture: ## the longer proofs
	./test/torture.sh

bench: ## measure against the peers; raw results go to bench/results
	./bench/run.sh

lint: ## formatting, vet, layers, and the linter
	./test/lint.sh

generate: ## write again what is made from other files
	$(GO) generate ./...

capture: build ## draw docs/demo.svg, from a real run of the demo
	./test/capture.sh

clean: ## remove what make made
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)
