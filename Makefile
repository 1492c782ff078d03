# Everything a person does with this repository. `make help` explains it.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help venv fmt lint types imports generate verify test test-unit test-contract test-apiserver test-e2e test-runbook model saboteur demo bench cluster-up cluster-down run lock dist sbom audit pin-base clean

help: ## what the targets do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.ready ## the locked virtual environment

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

fmt: venv ## format the code
	$(PY) -m ruff format operator tests
	$(PY) -m ruff check --fix operator tests

lint: venv ## format and lint, without changing anything
	$(PY) -m ruff format --check operator tests
	$(PY) -m ruff check operator tests

types: venv ## static types, strict
	$(PY) -m mypy

imports: venv ## imports point down only
	$(VENV)/bin/lint-imports

generate: venv ## CRDs, RBAC, field reference, Argo CD health: from the models and the registry
	$(PY) -m gatewright.codegen

verify: lint types imports ## everything that needs no run: lint, types, imports, generated files up to date
	$(PY) -m gatewright.codegen --check

# What measures how fast a real site answers, runs eight releases at once, or cordons the node has the machine to itself.
ALONE := tests/e2e/test_main_job.py tests/e2e/test_runbook.py tests/e2e/test_saboteur.py
test: verify ## every test: unit, golden, contract, API server, end to end
	$(PY) -m pytest $(ALONE)
	$(PY) -m pytest tests $(ALONE:%=--ignore=%) --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-unit: venv ## the tests that need nothing (seconds)
	$(PY) -m pytest tests/unit tests/golden

test-contract: venv ## the tests of providers against stand-ins and vendors' own specifications
	$(PY) -m pytest tests/contract

test-apiserver: venv ## the tests on a real kube-apiserver
	$(PY) -m pytest tests/apiserver

test-e2e: venv ## the tests on a whole cluster
	$(PY) -m pytest tests/e2e

test-runbook: venv ## the whole runbook on a cluster, against stand-ins of every system (part of test)
	$(PY) -m pytest tests/e2e/test_runbook.py

model: venv ## walk the model of the core by chance: make model STEPS=1000000
	MODEL_STEPS=$(or $(STEPS),100000) $(PY) -m pytest tests/unit/model -s

saboteur: venv ## what others do meanwhile, drawn by seed, on a cluster: make saboteur SEED=1 DRAWS=200
	$(PY) -m tests.e2e.saboteur --seed $(or $(SEED),1) --draws $(or $(DRAWS),200)

demo: venv ## the main job: three releases of foco on a throwaway cluster
	$(PY) -m tests.e2e.demo

bench: venv ## figures: latency from decision to write, requests, CPU and memory per Release
	$(PY) -m pytest tests/bench -m bench -s

cluster-up: venv ## a throwaway cluster: kind where a Docker engine answers, else made of plain processes (root)
	$(PY) -m tests.cluster up

cluster-down: venv ## take it down; nothing stays behind
	$(PY) -m tests.cluster down

run: venv ## the operator from this checkout against the current context
	$(PY) -m gatewright run --all-namespaces --lease-namespace default

lock: venv ## resolve and hash the requirements anew
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements/operator.txt
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra dev --constraint requirements/operator.txt pyproject.toml -o requirements/dev.txt

dist: venv ## wheel and source archive into dist/: the same checkout gives the same bytes
	rm -f dist/gatewright-*.whl dist/gatewright-*.tar.gz
	$(PY) -m hatchling build --directory dist --target sdist --target wheel

sbom: venv ## what is in the image, as CycloneDX, into dist/; IMAGE=gatewright:dev looks into one that was built
	$(PY) -m tests.supply sbom $(if $(IMAGE),--image $(IMAGE))

audit: sbom ## known vulnerabilities of what is locked; asks osv.dev, or OSV_URL
	$(PY) -m tests.supply audit

pin-base: venv ## the newest digest of the base image, into the Dockerfile; needs docker buildx or skopeo
	$(PY) -m tests.supply pin-base

clean: ## what was built in this checkout
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
