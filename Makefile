# Everything a developer or a first user types. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_PACKAGES := debootstrap systemd-container iproute2 nftables openssh-client python3-venv git rsync chromium tmux logrotate
# Most of them wait for something; labs have a machine to themselves.
UNIT := $(BIN)/python -m pytest tests/unit --numprocesses auto --maxprocesses 4
# Programs of a package that would start a server if it were installed; without them their tests are skipped.
PROMETHEUS := $(VENV)/prometheus/usr/bin
export PATH := $(CURDIR)/$(PROMETHEUS):$(PATH)
DEMO_INVENTORY := inventory/local/hosts.yml

.PHONY: help
help:  ## Say what there is.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

$(VENV)/.runtime: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than Python 3.11: run make PYTHON=/path/to/a/newer/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.development
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

.PHONY: demo
demo: $(VENV)/.runtime  ## Deploy the real SGLang on this machine's CPU, without root; about five minutes.
	@echo "== inputs: wheels, a conda package of this Python, a tiny model"
	$(BIN)/python -m demo inputs
	@echo "== deploy: the same playbooks as for a fleet, to this machine"
	$(BIN)/python -m deployer rollout -i $(DEMO_INVENTORY) --yes
	@echo "== what serves now"
	@$(BIN)/python -m demo show

.PHONY: demo-clean
demo-clean:  ## End the demo's service and remove what the demo deployed.
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m demo clean; fi

.PHONY: test-packages
test-packages:
	@if [ "$$(id -u)" = 0 ] && ! dpkg -s $(TEST_PACKAGES) >/dev/null 2>&1; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TEST_PACKAGES); \
	fi

$(PROMETHEUS)/prometheus: | $(VENV)/.development
	-@cd $(VENV) && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb prometheus && rm prometheus_*.deb

.PHONY: lint
lint: $(VENV)/.development  ## ruff, yamllint, ansible-lint (profile production), mypy.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --profile production
	$(BIN)/mypy -p deployer
	$(BIN)/mypy plugins/module_utils demo/*.py

.PHONY: unit
unit: $(PROMETHEUS)/prometheus $(VENV)/.development  ## Tests that need neither root nor hosts.
	$(UNIT)

.PHONY: test
test: test-packages lint $(PROMETHEUS)/prometheus  ## Everything: lint, unit tests, and the lab with the real engines.
	$(UNIT)
	$(BIN)/python -m pytest tests --ignore tests/unit

.PHONY: test-all
test-all: test-packages lint $(PROMETHEUS)/prometheus  ## The same with long and repeated trials.
	$(UNIT) -m ''
	$(BIN)/python -m pytest tests --ignore tests/unit -m ''

.PHONY: bench-plan
bench-plan: $(VENV)/.development  ## How long planning 100 hosts takes on the controller; 1 when it is over 2 s.
	@$(BIN)/python -m tests.benchmarks.plan

.PHONY: bench-environment
bench-environment: $(VENV)/.development  ## Building an environment against venv and pip; 1 when it takes over half the time.
	@$(BIN)/python -m tests.benchmarks.environment

.PHONY: bench-weights
bench-weights: test-packages $(VENV)/.bench  ## Weights to 8 lab hosts against one copy, rsync, BitTorrent; 1 when it takes over 1.05 copies.
	@$(BIN)/python -m tests.benchmarks.weights

.PHONY: bench-cutover
bench-cutover: test-packages $(VENV)/.development  ## The outage of a cut-over against stopping and starting by hand; 1 when it is over 1.10.
	@$(BIN)/python -m tests.benchmarks.cutover

.PHONY: bench-rollout
bench-rollout: test-packages $(VENV)/.development  ## The command line against plain ansible-playbook, nothing to do on 10 hosts; 1 when it is over 1.15.
	@$(BIN)/python -m tests.benchmarks.rollout

.PHONY: gpu-proof
gpu-proof: $(VENV)/.development  ## SGLang on this host's GPUs, deployed and measured: GPU_PROOF="--prefix /opt/conda/envs/sglang"; 1 when something fails.
	@$(BIN)/python -m tests.gpu_proof $(GPU_PROOF)

.PHONY: docs-output
docs-output: test-packages $(VENV)/.development  ## Run the commands of the pages in the lab, and write into them what is printed: PAGES="guide".
	@$(BIN)/python -m tests.documented $(PAGES)

.PHONY: clean
clean: demo-clean  ## Remove what was made in this checkout.
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .ansible .demo .deployer gpu-proof
