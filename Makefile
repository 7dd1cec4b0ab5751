# Two commands: `make run` starts everything on this machine, `make test` proves it.
# TARGET is where cargo builds; a folder outside the clone survives fresh clones.
SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(CURDIR)/target
BIN := $(CARGO_TARGET_DIR)/release
SECONDS_PER_ROUND ?= 2
ROUNDS ?= 100

.PHONY: run test build ui bench faults clean-data help

help:
	@echo "make run     build and start Lodge with an agent and a demo fleet, http://127.0.0.1:9420"
	@echo "make test    set up and run every test"
	@echo "make bench   three workloads beside ClickHouse, ripgrep, VictoriaLogs: CPU per GB, memory,"
	@echo "             disk, query times (SIZE=200MB or RECORDS=... of each; VICTORIA_LOGS=program)"
	@echo "make faults  kill -9 server and agent under load (ROUNDS=100 SEED=...)"

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

faults: build
	LODGE_BIN=$(BIN)/lodge LODGE_AGENT_BIN=$(BIN)/lodge-agent \
	  $(BIN)/lodge-faults kill --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

clean-data:
	rm -rf lodge-data
