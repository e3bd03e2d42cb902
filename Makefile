# make run      the main job on real input
# make test     every test
# make build    bin/herdbook
SHELL := /bin/bash
export GOFLAGS := -trimpath
AGENT := internal/workshop/embedded/herdbook-agent

.PHONY: build
build: bin/herdbook

.PHONY: bin/herdbook
bin/herdbook: $(AGENT)
	CGO_ENABLED=0 go build -ldflags="-s -w" -o $@ ./cmd/herdbook

.PHONY: $(AGENT)
$(AGENT):
	CGO_ENABLED=0 go build -ldflags="-s -w" -o $@ ./cmd/herdbook-agent
