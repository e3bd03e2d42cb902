# make run      the main job on real input: build, test and deliver two Debian images
# make test     every test of a change, the ones with machines too
#
# make build    bin/herdbook
# make check    the tests without machines, and what reads the code
# make fuzz     readers of what strangers write, for a while each (FUZZTIME=10s)
# make vm       the tests with machines that every change waits for
# make test-long       every test with machines but the installer's, also those that nothing waits for: two hours
# make test-targets    every target in the place that it is for: half an hour and more
# make test-installer  the real Debian installer, to the end and into each of its failures: half an hour
# make bench    figures, beside those of the tools that herdbook succeeds
# make bench BENCH=image      the same of the commands for any disk image
# make bench BENCH=repo       the same of repositories: publish, read, serve
# make bench BENCH=boot       the same of steps in the booted image
# make bench BENCH=puppet     the same of a role by a real Puppet server
# make bench BENCH=targets    the same of the places that an image is delivered to
# make bench BENCH=installer  the same of the real Debian installer: a quarter of an hour
# make clean    what make has made, but for the store of layers
SHELL := /bin/bash
GO := tools/go
AGENT := internal/workshop/embedded/herdbook-agent
INIT := internal/target/ramdisk/embedded/herdbook-init
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
bin/herdbook: $(AGENT) $(INIT)
	CGO_ENABLED=0 $(GO) build -ldflags="-s -w" -o $@ ./cmd/herdbook

.PHONY: $(AGENT)
$(AGENT):
	CGO_ENABLED=0 $(GO) build -ldflags="-s -w" -o $@ ./cmd/herdbook-agent

.PHONY: $(INIT)
$(INIT):
	CGO_ENABLED=0 $(GO) build -ldflags="-s -w" -o $@ ./cmd/herdbook-init

.PHONY: packages-run
packages-run:
	@tools/packages run

.PHONY: packages
packages: bin/versitygw bin/goss
	@tools/packages run test

# The S3 server that the tests hold herdbook against.
.PHONY: bin/versitygw
bin/versitygw:
	CGO_ENABLED=0 $(GO) build -C tools/s3 -ldflags="-s -w" -o $(CURDIR)/$@ github.com/versity/versitygw/cmd/versitygw

# The goss that the tests lay into guests.
.PHONY: bin/goss
bin/goss:
	CGO_ENABLED=0 $(GO) build -C tools/goss -ldflags="-s -w" -o $(CURDIR)/$@ github.com/goss-org/goss/cmd/goss

# Tests with machines, and others that take minutes, are named TestVM…. In these packages nothing runs side by
# side, or a pool of workers at most, and the race detector would make minutes of their seconds.
UNRACED := $(addprefix ./internal/,ansible archive archtest btrfs cloudinit comparison container customize definition digest disk event ext4 fat growth identity \
	inspection install iso kmod luks lvm mapper md nic op ovf pin pkgdb plan puppet repo repo/doors repo/manifest repo/publish repo/streams sbom survey target/format \
	target/iso target/openstack target/ova target/ramdisk target/root target/vagrant tree unpack uuid volume xfs)

.PHONY: check
check: packages $(AGENT) $(INIT)
	@unformatted=$$($$($(GO) env GOROOT)/bin/gofmt -l bench cmd internal test); \
		[ -z "$$unformatted" ] || { echo "not formatted: $$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GO) vet -tags targets,long,installer ./...
	$(GO) run $(STATICCHECK) ./...
	@if curl --silent --fail --head --max-time 10 https://vuln.go.dev/index/db.json >/dev/null; \
		then $(GO) run $(GOVULNCHECK) ./...; \
		else echo "govulncheck: its database cannot be reached; not checked"; fi
	$(GO) test -skip '^TestVM' $(UNRACED)
	$(GO) test -race -timeout 30m -skip '^TestVM' $$($(GO) list ./... | grep -v $(patsubst ./%,-e /%$$,$(UNRACED)))

# What reads and writes strangers' words. What was of interest before is in their
# testdata/fuzz, and is tried by check, too.
FUZZED := \
	internal/agent:FuzzReadGoss \
	internal/agent:FuzzSockets \
	internal/ansible:FuzzParse \
	internal/cloudinit:FuzzRead \
	internal/gateway:FuzzAnswer \
	internal/gateway:FuzzDHCP \
	internal/gateway:FuzzFrames \
	internal/gateway:FuzzReadFrame \
	internal/junit:FuzzFormat \
	internal/kmod:FuzzFirmwareNames \
	internal/puppet:FuzzParseReport \
	internal/repo:FuzzParse \
	internal/repo:FuzzParseOrigins \
	internal/repo/manifest:FuzzParse \
	internal/repo/streams:FuzzParse \
	internal/signed:FuzzVerify \
	internal/tunnel:FuzzEnter
FUZZTIME ?= 5s

.PHONY: fuzz
fuzz:
	@for target in $(FUZZED); do \
		echo "fuzz $$target for $(FUZZTIME)"; \
		$(GO) test ./$${target%:*} -run '^$$' -fuzz "^$${target#*:}$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

# What is said of tests with machines: their output as it comes, without those that have nothing to do.
TELL := grep --line-buffered -v -e '^=== ' -e 'no test files' -e '^ok .*no tests to run' ; exit $${PIPESTATUS[0]}

.PHONY: vm
vm: packages build
	$(GO) test -run '^TestVM' -timeout 85m -v ./... | $(TELL)

.PHONY: test-targets
test-targets: packages build
	$(GO) test -tags targets -run '^TestVM$$/^target|^TestVMTarget' -timeout 85m -v ./... | $(TELL)

.PHONY: test-long
test-long: packages build
	$(GO) test -tags targets,long -run '^TestVM' -timeout 4h -v ./... | $(TELL)

.PHONY: test-installer
test-installer: build
	@tools/packages run installer
	$(GO) test -tags installer -run '^TestInstaller' -timeout 3h -v ./test/installer

.PHONY: bench
bench: build
	@tools/packages run bench $(filter installer puppet,$(BENCH))
	$(GO) run ./bench $(BENCH)

.PHONY: clean
clean:
	rm -rf bin herd .test $(AGENT) $(INIT)
