# Everything runs in .venv, which `make setup` builds from pyproject.toml and the pinned constraints.
PYTHON ?= python3
BIN := .venv/bin
# A file's tests share one process, and what they have prepared; those of other files run beside it, slow ones first.
ALONE := $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --ignore=tests/kafka --ignore=tests/stack --ignore=tests/optin --ignore=tests/proxy
# Three processes, each with a broker of its own: much of a test's time is waiting. Groups share a broker of their own.
# What was compiled runs, as it does where it is used.
KAFKA := OVERDRAW_PURE=0 $(BIN)/python -m pytest -q -n 3 --dist loadgroup --no-loadscope-reorder tests/kafka
.DEFAULT_GOAL := help
.PHONY: help setup compiled fmt lint test-fast test test-stack dashboards dashboard-pictures picture bench bench-notifier bench-gate floors chaos demo ci clean chart helm-check image-check gateways-check test-litellm

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t20

setup: .venv/.ready  ## make .venv with everything the demo and the tests need

.venv/.ready: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Overdraw needs Python 3.11 or newer: set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c .ci/constraints.txt -e '.[embedded,dev]'
	@$(BIN)/python -m stream.lab.compile --if-possible
	@touch $@

compiled: setup  ## compile the core again after a change, until then its sources run; needs a C compiler
	@$(BIN)/python -m stream.lab.compile

fmt: setup  ## format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

test-fast: setup lint  ## the quick tests: no broker, nothing marked slow; two minutes
	@$(ALONE) -m "not slow"

test: setup lint  ## all tests, with the embedded Kafka
	@$(BIN)/python -m stream.lab.compile --if-possible
	@$(ALONE)
	@$(KAFKA)

test-stack: setup  ## dashboards and alerts on real workers, Prometheus, Alertmanager (installs Debian's, as root)
	@bash .ci/install-prometheus
	@$(BIN)/python -m pytest -q tests/stack

# The way of deploy/gateways/litellm: an environment of the proxy's, and into it just what the callback needs.
.venv-litellm/.ready: pyproject.toml
	@test -x .venv-litellm/bin/python || $(PYTHON) -m venv .venv-litellm
	@.venv-litellm/bin/python -m pip install -q --disable-pip-version-check 'litellm[proxy]>=1.100,<2' 'aiokafka>=0.14,<0.15' 'msgspec>=0.19,<0.23' prometheus-client tzdata
	@.venv-litellm/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

test-litellm: setup .venv-litellm/.ready  ## the callback in a real LiteLLM proxy: 750 MB, some minutes
	@$(BIN)/python -m pytest -q tests/proxy

helm-check: setup  ## the Helm chart through helm and kubeconform (builds both with Go, once)
	@bash .ci/install-helm
	@$(BIN)/python -m pytest -q tests/optin/test_helm.py

image-check: setup  ## build the image without a daemon, measure it, run it (installs Debian's buildah, as root)
	@bash .ci/install-buildah
	@$(BIN)/python -m pytest -q tests/optin/test_image.py

gateways-check: setup  ## deploy/gateways on a real Envoy, Vector's language and a Collector (builds it with Go, once)
	@bash .ci/install-gateways
	@$(BIN)/python -m pytest -q tests/optin/test_gateways.py

chart: setup  ## write what of the Helm chart is made: its settings' schema, and what the tests look at
	@bash .ci/install-helm
	@$(BIN)/python deploy/helm/chart.py --helm .tools/bin/helm

dashboards: setup  ## write the JSON of the Grafana dashboards, and Grafana's rules, from grafana/build.py
	@$(BIN)/python grafana/build.py

dashboard-pictures: setup  ## draw the dashboards under an attack: needs npm, Chromium, Prometheus; two minutes
	@$(BIN)/python tests/stack/draw_dashboards.py

picture: setup  ## the README's picture of a drift, from simulated traffic: two minutes
	@mkdir -p .drift
	@$(BIN)/overdraw simulate --scenario drift --seed 12 --keys 14 --days 35 --rate 0.08 --to .drift/calls.jsonl.gz
	@$(BIN)/overdraw explain key-011 --file .drift/calls.jsonl.gz --window 1d --plot deploy/pictures/drift.svg
	@rm -r .drift

bench: setup  ## throughput and memory, as ratios to a raw consumer loop
	@$(BIN)/python -m stream.lab.compile --if-possible
	@$(BIN)/overdraw bench

bench-notifier: setup  ## how long an alert takes from its transaction to a webhook: p50 and p99
	@$(BIN)/python -m stream.lab.bench_notifier

# Half the bar: busy neighbours of a virtual machine slow the worker, which needs more memory, more than the raw loop.
bench-gate: setup  ## fail if the worker falls far behind a raw consumer loop: a ratio, with a wide margin
	@$(BIN)/python -m stream.lab.compile --if-possible
	@$(BIN)/overdraw bench --quick --events 150000 --gate 0.5

floors: setup  ## fail if the detector finds less, or alerts more, than it did on a small labelled suite
	@$(BIN)/overdraw evaluate --suite ci --floors

chaos: setup  ## what breaks, and what is left: failure experiments on Kafka 4.1 and 3.9
	@$(BIN)/overdraw chaos --kafka all

demo: setup  ## embedded Kafka, traffic with an attack, the detector, the alert
	@$(BIN)/overdraw demo

ci: setup  ## what continuous integration runs
	@bash .ci/run

clean:  ## remove the environment and all caches of tools
	@rm -rf stream/compiled .venv .venv-litellm .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
