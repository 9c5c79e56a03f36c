# sriovkit: run `make` for the list of targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Nothing here is C, and programs are shipped with -trimpath. One way to build, whether or
# not the machine has a compiler, is also one entry in the build cache.
export CGO_ENABLED := 0
export GOFLAGS := $(GOFLAGS) -trimpath

MODULES := libsriov sriov-cni device-plugin multus-shim operator e2e
# Outside the workspace, for what only a release needs to compile.
NESTED := e2e/publish e2e/charts e2e/runtimes e2e/helm e2e/alerts
# Further modules, that pin what is built and run from elsewhere.
PINS := .tools e2e/kubernetes e2e/containerd
each = for m in $(MODULES); do echo "== $$m: $(1)"; (cd $$m && $(1)); done

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Helm and promtool take many minutes to compile: only make test-helm and test-alerts do. The
# module of the former imports e2e, so that its go.mod has to follow.
pins = for m in $(filter e2e/helm,$(NESTED)) $(PINS); do echo "== $$m: $(1)"; (cd $$m && $(1)); done

nested = for m in $(filter-out e2e/helm e2e/alerts,$(NESTED)); do echo "== $$m: $(1)"; (cd $$m && $(1)); done

.PHONY: build
build: ## Compile every module
	go build work

.PHONY: programs
programs: ## The components' programs in bin, as they are shipped
	@go run ./e2e/cmd/lab programs

.PHONY: generate
generate: ## Regenerate what is derived from the operator's API types, the tables of fields and the picture
	GOWORK=off go -C .tools build -o ../bin/ sigs.k8s.io/controller-tools/cmd/controller-gen
	cd operator && GOWORK=off ../bin/controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/... crd:crdVersions=v1,maxDescLen=300 output:crd:dir=config/crd
	go run ./e2e/cmd/fields

.PHONY: check-generated
check-generated: generate ## Fail when generated files are not what their sources say
	git diff --exit-code -- operator/api operator/config/crd operator/docs/fields.md operator/docs/kubectl-sriov.svg sriov-cni/docs/fields.md

.PHONY: test
# Emulated nodes wait for their hardware nearly half of the time. Meanwhile the machine does
# what needs no node, if it has the memory for both; else that comes first. Clusters are
# bound by the processors, and come last. RUN and the like, which may be in the environment,
# are for other targets: they would have make test run less without a word.
# What fails stands at the end once more, as there may be thousands of lines behind it.
WHOLE := --no-print-directory RUN= SUITE= PROFILE= TIMEOUT=
test: check-generated ## What CI runs for each change: checks, lint and all tiers of tests but the long one
	@rm -f $(FAILURES)
	@{ $(MAKE) $(WHOLE) -j$$(awk '/^MemAvailable/ {print 1 + ($$2 > 8 * 1024 * 1024)}' /proc/meminfo) test-here test-node && \
	  $(MAKE) $(WHOLE) test-cluster; } || { echo '== what failed, once more:'; cat $(FAILURES); exit 1; }

FAILURES := $(CURDIR)/bin/failures
report = go run $(CURDIR)/e2e/cmd/tier report -failures $(FAILURES)

# artifacts is here for the tests with a control plane.
HERE := check lint vuln artifacts test-host test-publish test-runtimes test-fuzz test-bench
.PHONY: test-here
test-here: ## What needs no node of make test: check, lint, host, publish, runtimes, fuzz, bench
	@mkdir -p bin; for target in $(HERE); do \
	  begun=$$SECONDS; $(MAKE) --no-print-directory $$target 2>&1 | tee bin/$$target.log || { tail -n 50 bin/$$target.log >>$(FAILURES); exit 1; }; \
	  echo "== $$target: $$((SECONDS - begun)) s"; \
	done

.PHONY: check
check: ## Vet the workspace; build, vet and tidy each module on its own; one set of versions; pages
	@echo '== workspace: go vet (minutes when Go has nothing cached, and silent)'
	@go vet work
	@export GOWORK=off; $(call each,go build ./... && go vet ./... && go mod tidy -diff)
	@cd libsriov && GOWORK=off GOOS=darwin go vet ./... # editors on other systems
	@export GOWORK=off; $(call nested,go vet ./... && go mod tidy -diff); $(call pins,go mod tidy -diff)
	@go run ./e2e/cmd/versions
	@go test -count=1 ./e2e/docs # the test cache does not see pages of other modules

.PHONY: versions
versions: ## Bring the modules to one set of versions, the workspace's
	go work sync
	@export GOWORK=off; $(call each,go mod tidy); $(call nested,go mod tidy); $(call pins,go mod tidy)

.PHONY: test-host
# A program under the race detector waits a second before it ends unless it is told not to,
# and tests start thousands. The packages that take longest, and mostly wait, begin first.
LONGEST := ./operator/internal/controller ./multus-shim/cmd/multus-shim
# A test that looks at SRIOVKIT_SOURCES is run again when any file is another: the cache of go
# test sees what a test itself opens in its own module, and neither files of other modules
# nor what programs read.
SOURCES = $$(git ls-files -coz --exclude-standard | xargs -0 sha256sum 2>/dev/null | sha256sum | cut -c1-16)
test-host: compiler ## Tests that need no emulated hardware, under the race detector
	SRIOVKIT_SOURCES=$(SOURCES) SRIOVKIT_E2E=host CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 go test -race -timeout 30m -json $(LONGEST) work | $(report) -tier host -all

# The race detector is C, and nothing else is.
.PHONY: compiler
compiler:
	@echo '#include <pthread.h>' | gcc -fsyntax-only -xc - 2>/dev/null || go run ./e2e/cmd/lab install gcc libc6-dev

.PHONY: test-fuzz
test-fuzz: ## Every fuzz target for FUZZTIME (default 5s) each, one a processor
	@go run ./e2e/cmd/tier fuzz -time $(or $(FUZZTIME),5s)

.PHONY: test-bench
test-bench: ## Every benchmark once, to see that it works
	@NODES=$(or $(NODES),20) go run ./e2e/cmd/tier bench -benchtime 1x

.PHONY: vuln
vuln: ## Known vulnerabilities that the code can reach, where the database can be
	@GOWORK=off go -C .tools build -o ../bin/ golang.org/x/vuln/cmd/govulncheck
	@go run ./e2e/cmd/vuln -govulncheck bin/govulncheck $(MODULES)

# The modules outside the workspace try what is in others, which go test's cache does not see.
.PHONY: test-publish
test-publish: ## Tests of push, bundle and charts, against registries of their own
	@openssl version >/dev/null 2>&1 || go run ./e2e/cmd/lab install openssl # the page on keys has it
	cd e2e/publish && GOWORK=off go test -count=1 ./...
	cd e2e/charts && GOWORK=off go test -count=1 ./...

.PHONY: test-runtimes
test-runtimes: ## multus-shim below the libraries of containerd and CRI-O (root)
	cd e2e/runtimes && GOWORK=off SRIOVKIT_E2E=host go test -count=1 ./...

.PHONY: test-helm
test-helm: ## The charts tried with Helm, which takes 10 minutes to compile once (HELM=path of another version's program)
	cd e2e/helm && SRIOVKIT_HELM='$(if $(HELM),$(abspath $(HELM)))' GOWORK=off SRIOVKIT_E2E=host go test -count=1 -timeout 30m ./...

# Without those that make netlink sockets or start programs: the emulator translates few of
# the former, and what a program starts is not emulated. TestUnknownKeys measures time.
ARCH_PACKAGES := $(addprefix ./libsriov/,devlink internal/sysfs value vdpa vfstate) ./libsriov \
	$(addprefix ./sriov-cni/,attach cnierr install internal/delegate repair request state vf) \
	$(addprefix ./device-plugin/,allocation config device inventory metrics plugin pool) ./e2e/image

.PHONY: test-arch
test-arch: ## Unit tests compiled for ARCH=arm64 (or ppc64le, s390x), under emulation of processes
	@go run ./e2e/cmd/lab test-arch -arch $(or $(ARCH),arm64) -- -count=1 -timeout 30m -skip TestUnknownKeys $(or $(PACKAGES),$(ARCH_PACKAGES))

.PHONY: test-helm-cluster
test-helm-cluster: ## The charts and the bundle on clusters of emulated nodes (RUN=Immutable to narrow, FROM=commit that upgrades begin with)
	cd e2e/helm && SRIOVKIT_FROM='$(FROM)' SRIOVKIT_HELM='$(if $(HELM),$(abspath $(HELM)))' GOWORK=off SRIOVKIT_E2E=cluster go test -count=1 -timeout 60m -v -run '$(or $(RUN),^TestCluster)' .

.PHONY: test-alerts
test-alerts: ## The alert rules tried with promtool (which takes minutes to compile once)
	cd e2e/alerts && export GOWORK=off && go mod tidy -diff && go vet ./... && go test -count=1 -timeout 30m ./...

.PHONY: artifacts
artifacts: ## Build what nodes and clusters are made of (10 minutes once, then nothing)
	@go run ./e2e/cmd/lab build

# Not through the test cache: the suites of all modules run inside these tests. A node takes
# 0.4 of a processor and 1.5 GB of memory: where 16 GB are free, three suites and, beside
# them, the nodes of other packages; elsewhere two nodes, as many as a cluster has.
BESIDE = $$(awk '/^MemAvailable/ {print ($$2 > 16 * 1024 * 1024 ? "-p 2 -parallel 3" : "-p 1 -parallel 2")}' /proc/meminfo)
.PHONY: test-node
test-node: artifacts ## Tests in emulated nodes with SR-IOV NICs (SUITE=name RUN=regexp to narrow, PROFILE=qede, TIMEOUT=60m)
	cd e2e && SRIOVKIT_E2E=node go test -json -count=1 -timeout $(or $(TIMEOUT),60m) $(BESIDE) -run '^TestNode' $(if $(SUITE)$(RUN),./node -args -suite '$(SUITE)' -profile '$(PROFILE)' -tests '$(RUN)',./...) | $(report) -tier node -v

# Each on a node of its own, one after the other. make test kills at the calls that count.
.PHONY: kills
kills: ## sriov killed before every system call (KILL=5: every fifth), on PROFILES='plain qede ...': hours
	@for p in $(or $(PROFILES),plain iavf-ice iavf-i40e qede); do \
	  (cd e2e && SRIOVKIT_E2E=node SRIOVKIT_KILL=$(or $(KILL),1) go test -count=1 -timeout 0 -v -run '^TestNodeSuites' ./node -args -suite sriov-cni -profile $$p -tests '^TestNode$(if $(RESETS),QuirkKilled,(Killed|DamagedState))$$'); \
	done

.PHONY: test-cluster
test-cluster: ## Tests in Kubernetes clusters of emulated nodes (RUN=regexp to narrow)
	cd e2e && SRIOVKIT_E2E=cluster go test -json -count=1 -timeout 60m -p 1 -run '$(or $(RUN),^TestCluster)' ./... | $(report) -tier cluster -v $(if $(RUN),,-all)

.PHONY: test-long
test-long: ## Tests in clusters that take minutes each and are not part of make test (RUN=regexp to narrow)
	cd e2e && SRIOVKIT_E2E=long go test -json -count=1 -timeout 60m -p 1 -run '$(or $(RUN),^TestLong)' ./... | $(report) -tier long -v $(if $(RUN),,-all)

# What is too long for every change. The runs of make test are the first of these.
.PHONY: soak
soak: compiler ## The randomized tests SOAK times as long (default 20): late watches, lagging caches, plans
	SRIOVKIT_SOAK=$(or $(SOAK),20) SRIOVKIT_E2E=host CGO_ENABLED=1 go test -race -count=1 -timeout 0 -v -run '$(or $(RUN),Lagging|LateWatch|Properties|PartialLooks)' ./operator/internal/controller/... ./operator/internal/plan

.PHONY: matrix
matrix: ## Tests on kernels 6.1, 6.12, 7, other versions and NICs; writes README's table (ARGS='-kernels 6.1 -suites libsriov')
	@go run ./e2e/cmd/matrix $(ARGS)

.PHONY: soak-dra
soak-dra: compiler ## A node goes from the device plugin to DRA and back FLIPS times (default 100) under pods that come and go
	cd device-plugin && SRIOVKIT_FLIPS=$(or $(FLIPS),100) CGO_ENABLED=1 go test -race -count=1 -timeout 0 -v -run '^TestFlips$$' ./cmd/sriovdra

.PHONY: test-takeover
test-takeover: ## The operator applied over an upstream release, and back (UPSTREAM=FILE of its manifests, MADE=FILE of what its operator makes)
	@test -f '$(UPSTREAM)' || { echo 'UPSTREAM=FILE: one file with the kinds and manifests of a release'; exit 1; }
	SRIOVKIT_UPSTREAM='$(abspath $(UPSTREAM))' SRIOVKIT_UPSTREAM_MADE='$(abspath $(MADE))' SRIOVKIT_E2E=host go test -count=1 -timeout 30m -v -run '^TestUpstreamIsTakenOver$$' ./operator/internal/controller

.PHONY: vm
vm: ## A shell in an emulated node (ARGS='-pfs 4 -dual-port', see lab vm -h)
	@go build -o bin/lab ./e2e/cmd/lab && bin/lab vm $(ARGS)

.PHONY: cluster
cluster: ## A shell beside a cluster of emulated nodes, kubectl ready (ARGS='-nodes 2')
	@go build -o bin/lab ./e2e/cmd/lab && bin/lab cluster $(ARGS)

.PHONY: demo
demo: ## sriovkit on a real cluster with an emulated node; stays until demo-down
	@go build -o bin/lab ./e2e/cmd/lab && bin/lab demo $(ARGS)

.PHONY: demo-down
demo-down: ## Take the demo down, with everything it started
	@go build -o bin/lab ./e2e/cmd/lab && bin/lab demo-down

.PHONY: conformance
conformance: ## bin/sriov-conformance, which tries a real NIC (see HARDWARE.md)
	cd e2e && GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../bin/sriov-conformance ./cmd/sriov-conformance

.PHONY: images
images: ## Container images of all components as OCI archives in bin/images (ARGS='-tag v1 -platforms linux/amd64')
	@go run ./e2e/cmd/lab images $(ARGS)

# Another directory, with a build cache of its own: nothing is taken from the first build.
# The second takes as long as a first build for four platforms, 10 to 30 minutes.
.PHONY: reproduce
reproduce: ## The committed images built twice, in two directories with two build caches: the digests have to be the same
	@[ -z "$$(git status --porcelain)" ] || { echo 'reproduce: commit or stash first: images say whether files differ from the commit' >&2; exit 1; }
	@dir=$$(mktemp -d); trap 'chmod -R u+w $$dir; rm -rf $$dir' EXIT; git clone -q --no-hardlinks . $$dir/clone; \
	for from in . $$dir/clone; do \
		cache=$$(go env GOCACHE); if [ $$from != . ]; then cache=$$dir/cache; fi; \
		GOCACHE=$$cache go -C $$from run ./e2e/cmd/lab images -o $$dir/images $(ARGS) >$$dir/said; \
		grep -F sha256: $$dir/said >$$dir/digests-$${from##*/}; rm -r $$dir/images; \
	done; \
	cat $$dir/digests-.; diff $$dir/digests-. $$dir/digests-clone || { echo 'not the same (<: by the cache of go env GOCACHE; >: by an empty one). A cache is wrong, too, after a file changed while it was compiled: go clean -cache' >&2; exit 1; }; echo 'the same digests from both builds'

publish = GOWORK=off go -C e2e/publish build -trimpath -ldflags '-s -w' -o ../../bin/publish . && bin/publish
sign = $(if $(UNSIGNED),-unsigned,$(if $(KEY),-key '$(KEY)') $(if $(CERT),-certificate '$(CERT)'))

.PHONY: push
push: ## The images in bin/images, with SBOM, provenance and signatures, to REGISTRY= (KEY= CERT=, or UNSIGNED=1)
	@$(publish) push -registry '$(REGISTRY)' $(sign) $(ARGS)

charts = GOWORK=off go -C e2e/charts run . $(if $(VERSION),-version '$(VERSION)') $(if $(REGISTRY),-registry '$(REGISTRY)')

.PHONY: charts
charts: ## Helm charts from the kustomize trees, in bin/charts (VERSION=v0.1.0 REGISTRY=host/path of the images)
	@$(charts)

.PHONY: bundle
# With charts made for it: bin/charts may have those of other versions.
bundle: ## One archive of images, charts and manifests for places without a network (KEY= CERT=, or UNSIGNED=1)
	@rm -rf bin/extra && mkdir -p bin/extra/manifests
	@$(charts) -o '$(CURDIR)/bin/extra/charts' && rm -r bin/extra/charts/*/
	@cp -r operator/config bin/extra/manifests/operator && cp -r multus-shim/deploy bin/extra/manifests/multus-shim
	@$(publish) bundle -extra bin/extra $(sign) $(ARGS)

.PHONY: capture
capture: ## Record an emulated node's sysfs tree in FILE (default the captured tree of libsriov's tests)
	@go build -o bin/lab ./e2e/cmd/lab && bin/lab capture -o '$(or $(FILE),$(CURDIR)/libsriov/sriovtest/testdata/igb-node.tree)' $(ARGS)

.PHONY: lint
lint: ## golangci-lint over every module
	@GOWORK=off go -C .tools build -o ../bin/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@$(call each,../bin/golangci-lint run --config ../.golangci.yml ./...)
	@export GOWORK=off; $(call nested,../../bin/golangci-lint run --config ../../.golangci.yml ./...)

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (default 60s) each
	@$(MAKE) --no-print-directory test-fuzz FUZZTIME=$(or $(FUZZTIME),60s)

.PHONY: bench
bench: ## Benchmarks of every module
	@go run ./e2e/cmd/tier bench -benchmem

.PHONY: bench-device-plugin
bench-device-plugin: ## sriovdp beside other binaries: BINARIES='label=/path ...' (root)
	go run ./e2e/cmd/lab programs sriovdp
	cd device-plugin && GOWORK=off go build -o ../bin/kubelet-client ./internal/kubelettest/client
	cd e2e && go run ./bench/device-plugin $(ARGS) -client ../bin/kubelet-client -binary sriovdp=../bin/sriovdp $(addprefix -binary ,$(BINARIES))

.PHONY: stress-device-plugin
stress-device-plugin: ## RELOADS= (default 1000) changes of pools amid Allocate calls, with a checker beside them
	cd device-plugin && RELOADS=$(or $(RELOADS),1000) go test -count=1 -timeout 30m ./plugin -run TestReloadsUnderAllocations

.PHONY: bench-multus
bench-multus: ## multus-shim beside other binaries: BINARIES='label=/path ...' (root)
	go run ./e2e/cmd/lab programs multus-shim
	cd e2e && go run ./bench/multus -binary multus-shim=../bin/multus-shim $(addprefix -binary ,$(BINARIES))

.PHONY: bench-sriov
bench-sriov: ## sriov beside other binaries on an emulated node: BINARIES='label=/path ...' (ARGS='-n 31 -only MAC')
	go run ./e2e/cmd/lab programs sriov
	cd e2e && go run ./bench/sriov-cni $(ARGS) -binary sriovkit=../bin/sriov $(addprefix -binary ,$(BINARIES))

.PHONY: bench-policy
bench-policy: ## From a policy to a resource of a running node, by stages: ARGS='-runs 5 -vfs 7 -type vfio-pci'
	cd e2e && go run ./bench/policy $(ARGS)

.PHONY: release
release: ## Rehearse a release: MODULE=sriov-cni VERSION=v0.1.0; with TAG=1 leave its tag here
	@GOWORK=off go -C .tools build -o ../bin/ golang.org/x/exp/cmd/gorelease
	@cd e2e && go run ./cmd/release -module '$(MODULE)' -version '$(VERSION)' -gorelease ../bin/gorelease $(if $(TAG),-tag)

.PHONY: clean
clean: ## Remove what was built in this checkout
	rm -rf bin
