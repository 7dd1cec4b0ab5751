# Two commands: `make run` starts everything on this machine, `make test` proves it.
# TARGET is where cargo builds; a folder outside the clone survives fresh clones.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(CURDIR)/target
BIN := $(CARGO_TARGET_DIR)/release
SECONDS ?= 30
SEEDS ?= 1,2,3

.PHONY: run test build ui bench bench-agent bench-doors faults cluster fuzz clean-data help

help:
	@echo "make run     build and start Lodge with an agent and a demo fleet, http://127.0.0.1:9420"
	@echo "make test    set up and run every test"
	@echo "make bench   three workloads beside ClickHouse, ripgrep, VictoriaLogs: CPU per GB, memory,"
	@echo "             disk, query times (SIZE=200MB or RECORDS=... of each; VICTORIA_LOGS=program)"
	@echo "make bench-agent  what shipping files costs, beside rsyslog and Fluent Bit, and an outage of the"
	@echo "             server (OUTAGE=600 seconds, SIZE=500MB of each file; FLUENT_BIT=program)"
	@echo "make bench-doors  what each protocol costs by which logs come in, floods of syslog in datagrams,"
	@echo "             5,000 idle and 200 slow connections (SIZE=300MB of records)"
	@echo "make faults  every fault rig under load, and one table (SECONDS=30 SEEDS=1,2,3), or the random"
	@echo "             kills alone (ROUNDS=1000)"
	@echo "make cluster servers with different roles over one PostgreSQL and one bucket on this machine, with"
	@echo "             load and faults, and one table (SECONDS=30 SEEDS=1,2,3, or ROUNDS=500)"
	@echo "make fuzz    decoders and queries under coverage-guided fuzzing (SECONDS=600 each, TARGETS='gelf syslog')"

run: build
	@scripts/run $(BIN)

test:
	@scripts/test

ui:
	@scripts/setup build
	@scripts/ui

build: ui
	cargo build --release --workspace --bins

bench: build
	@scripts/bench $(BIN) $(if $(SIZE),--bytes $(SIZE)) $(if $(RECORDS),--records $(RECORDS)) $(BENCH_ARGS)

bench-agent: build
	@scripts/bench-agent $(BIN) $(if $(SIZE),--bytes $(SIZE)) $(if $(OUTAGE),--outage-s $(OUTAGE)) $(BENCH_ARGS)

# Each part alone: BENCH_ARGS='--protocols= --rates=' leaves out protocols and floods, '--idle 0' the crowd.
bench-doors: build
	$(BIN)/lodge-bench doors --lodge $(BIN)/lodge $(if $(SIZE),--bytes $(SIZE)) $(BENCH_ARGS)

# The disk operations of the agent's spool are enumerated by its own tests, where it is built.
faults: build
	@scripts/setup faults
	if [ -d crates/spool ]; then cargo test --release -p lodge-spool; fi
	LODGE_BIN=$(BIN)/lodge LODGE_AGENT_BIN=$(BIN)/lodge-agent \
	  $(BIN)/lodge-faults $(if $(ROUNDS),kill --rounds $(ROUNDS),all --seconds $(SECONDS)) \
	  --seeds $(SEEDS)

cluster: build
	@scripts/setup faults
	LODGE_BIN=$(BIN)/lodge LODGE_AGENT_BIN=$(BIN)/lodge-agent \
	  $(BIN)/lodge-faults cluster $(if $(ROUNDS),--rounds $(ROUNDS),--seconds $(SECONDS)) --seeds $(SEEDS)

# Each target for so many seconds, one after the other; scripts/fuzz minimise takes over what was found.
fuzz:
	@scripts/fuzz $(SECONDS) $(TARGETS)

clean-data:
	rm -rf lodge-data
