# make run      the main job on real input: build, test and deliver two Debian images
# make test     every test, the ones with machines too
#
# make build    bin/herdbook
# make check    the tests without machines, and what reads the code
# make vm       the tests with machines
# make test-installer  the real Debian installer, to the end: 20 minutes and more
# make bench    figures, beside those of the tools that herdbook succeeds
# make bench BENCH=image      the same of the commands for any disk image
# make bench BENCH=installer  the same of the real Debian installer: a quarter of an hour
# make clean    what make has made, but for the store of layers
SHELL := /bin/bash
GO := tools/go
AGENT := internal/workshop/embedded/herdbook-agent
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
export GOFLAGS := -trimpath

.PHONY: run
run: packages-run build
	bin/herdbook init herd
	bin/herdbook build --file herd/herdbook.hcl
	@echo
	@echo "Signed images: herd/repo.  Docker image: podman load -i herd/dist/web.docker.tar"
	@echo "Look inside:   bin/herdbook shell --file herd/herdbook.hcl web"

.PHONY: test
test: check vm

.PHONY: build
build: bin/herdbook

.PHONY: bin/herdbook
bin/herdbook: $(AGENT)
	CGO_ENABLED=0 $(GO) build -ldflags="-s -w" -o $@ ./cmd/herdbook

.PHONY: $(AGENT)
$(AGENT):
	CGO_ENABLED=0 $(GO) build -ldflags="-s -w" -o $@ ./cmd/herdbook-agent

.PHONY: packages-run
packages-run:
	@tools/packages run

.PHONY: packages
packages:
	@tools/packages run test

# Tests with machines are named TestVM…. These packages have no goroutines of
# their own, and the race detector would make minutes of their seconds.
UNRACED := ./internal/btrfs ./internal/disk ./internal/ext4 ./internal/fat ./internal/luks ./internal/lvm ./internal/md ./internal/pkgdb ./internal/volume ./internal/workshop ./internal/xfs

.PHONY: check
check: packages $(AGENT)
	@unformatted=$$($$($(GO) env GOROOT)/bin/gofmt -l bench cmd internal test); \
		[ -z "$$unformatted" ] || { echo "not formatted: $$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@if curl --silent --fail --head --max-time 10 https://vuln.go.dev/index/db.json >/dev/null; \
		then $(GO) run $(GOVULNCHECK) ./...; \
		else echo "govulncheck: its database cannot be reached; not checked"; fi
	$(GO) test -skip '^TestVM' $(UNRACED)
	$(GO) test -race -skip '^TestVM' $$($(GO) list ./... | grep -v $(patsubst ./%,-e /%$$,$(UNRACED)))

.PHONY: vm
vm: packages build
	$(GO) test -run '^TestVM' -timeout 40m -v ./... | grep -v -e '^=== ' -e 'no test files' -e '^ok .*no tests to run' ; exit $${PIPESTATUS[0]}

.PHONY: test-installer
test-installer: build
	@tools/packages run installer
	$(GO) test -tags installer -run '^TestInstaller' -timeout 3h -v ./test/installer

.PHONY: bench
bench: build
	@tools/packages run bench $(filter installer,$(BENCH))
	$(GO) run ./bench $(BENCH)

.PHONY: clean
clean:
	rm -rf bin herd .test $(AGENT)
