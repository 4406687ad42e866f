# Every target needs only Go; its version is in go.mod.
.PHONY: test race soak bench check build cross

# Modules of their own: they hold ours against other people's programs, whose
# dependencies the ledger is not to have.
FSCK = eventstore/transparency/fsck
COMPARISON = eventstore/comparison
DEPLOY = deploy/check

# The packages in which goroutines meet.
RACE = ./eventstore/... ./projections/... ./cmd/internal/intake/... ./cmd/internal/node/... ./cmd/internal/audit/... ./cmd/internal/credential/...

# What a newcomer runs, and CI too: with -race those in RACE, and the others as they
# are. The one that takes longest begins first, so that the others run beside it.
test:
	go test -timeout 30m ./cmd/paldies $$(go list ./... | grep -vxF "$$(go list $(RACE))")
	go -C $(FSCK) test ./...
	go -C $(DEPLOY) test ./...
	$(MAKE) race

race:
	go test -race -timeout 30m $(RACE)
	go test -race -short -timeout 30m ./cmd/internal/api/... ./cmd/internal/load/...

# Nodes, projectors and Postgres are killed at random while votes come in; the NATS
# servers of a deployment are killed, cut off and lose their disks, round after round;
# rebuilds of a million votes are killed. Each time everything is counted.
DURATION ?= 1h
ROUNDS ?= 20
soak:
	go test -run '^(TestSoak|TestDeployedCluster|TestPartitionedCluster)$$' -v -timeout 0 ./cmd/paldies -soak $(DURATION) -rounds $(ROUNDS)
	go test -run '^TestRebuildUnderLoad$$' -v -timeout 0 ./cmd/paldies -rebuild-votes 1000000 -rebuild-kills 20 -rebuild-rate 5000

# Ratios are measured within one run; nothing else should run meanwhile.
bench:
	go test -run '^$$' -bench . ./...
	go -C $(COMPARISON) test -run '^$$' -bench . -benchtime 50000x .

# Format, vet and static checks; every benchmark once, so that none can rot.
check:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted:"; echo "$$unformatted"; exit 1; }
	go mod verify
	go vet ./...
	go tool staticcheck ./...
	for module in $(FSCK) $(COMPARISON) $(DEPLOY); do go -C $$module mod verify && go -C $$module vet ./... || exit 1; done
	staticcheck=$$(go tool -n staticcheck) && for module in $(FSCK) $(COMPARISON) $(DEPLOY); do (cd $$module && $$staticcheck ./...) || exit 1; done
	go test -run '^$$' -bench . -benchtime 1x ./...
	go -C $(COMPARISON) test -run '^$$' -bench . -benchtime 1x .

build:
	go build -o bin/paldies ./cmd/paldies

# Other systems that auditors have.
cross:
	GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/paldies
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/paldies
