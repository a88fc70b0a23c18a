# The two commands a newcomer needs are "make demo" and "make test"; both do all the set-up on a fresh machine.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON ?= python3
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup demo docs collection changelog release release-rehearsal test test-all bench bench-quick bench-control bench-runtimes bench-setup lint \
	collection-tests repository-tests life-tests kubernetes-tests lab-tests fuzz-tests programs-before containers clean purge

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(VENV)/complete ## Install what the lab needs: system packages, Python environment, Dragonfly programs, wheels, lab image
	lab/setup
	lab/stages setup

$(VENV)/complete: requirements-dev.txt
	lab/setup
	$(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the Python environment (a minute)"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: setup ## Boot the lab fleet, publish a model, serve it on every GPU host, print the summary
	lab/model/make_model.py --out .cache/files
	ansible-playbook playbooks/lab_up.yml
	ansible-playbook playbooks/publish.yml
	ansible-playbook playbooks/site.yml
	@echo; cat reports/modelfleet-lab/report.txt; echo "The same facts in JSON: reports/modelfleet-lab/report.json"

# How it is made: docs/developing.md of the collection. Nothing is fetched for it, so root, as in CI, lets it have no network at all.
DOCS := .cache/docs-env
docs: $(VENV)/complete $(DOCS)/complete ## Build the site of the documentation into .cache/docs/html, and run the commands of the guides
	lab/setup --docs
	$(if $(filter 0,$(shell id -u)),unshare --net) $(VENV)/bin/python docs/build_site.py
	TESTS=$${TESTS:-all} pytest tests/test_guides.py
	@docs/guides.py

$(DOCS)/complete: docs/requirements.txt
	$(PYTHON) -m venv --clear $(DOCS)
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r docs/requirements.txt
	touch $@

# The tracked files and the plugin's jar. The classes of JDK 17 and 25 differ, so one JDK makes the jar of every release.
JDK ?= 17
JAVAC ?= javac
COLLECTION := collections/ansible_collections/modelfleet/serving

collection: $(VENV)/complete ## Build the collection's archive with the plugin's jar in it, into DEST (.)
	lab/wheels
	release/release.py build --jdk $(JDK) --javac $(JAVAC) --dest $(or $(DEST),.)

changelog: $(VENV)/complete ## Move the fragments into the changelog, as the version in galaxy.yml
	cd $(COLLECTION) && antsibull-changelog release

# How a release is made: docs/developing.md of the collection.
release: $(VENV)/complete ## Build the archive twice, judge it, install it, and sign it: GPG_KEY=, into DEST (dist)
	lab/wheels
	release/release.py release --jdk $(JDK) --javac $(JAVAC) --key "$(GPG_KEY)" --dest $(or $(DEST),dist)

test: $(VENV)/complete ## Run the checks that fit into 55 minutes, and show how long each stage took
	lab/setup
	lab/stages test

test-all: $(VENV)/complete ## Run every check
	lab/setup
	lab/stages all

# What is measured, and how to measure a part of it: bench/README.md. BENCH=--plan says how long it takes.
bench: bench-setup ## Measure our way and others on a fleet with shaped links, every cell five times (half a day)
	bench/bench.py $(BENCH)

bench-quick: bench-setup ## Measure one cell of it (a quarter of an hour)
	bench/bench.py --quick $(BENCH)

# Of Triton there is a Python backend for Debian 12 only, so that is where all servers run.
bench-runtimes: $(VENV)/complete ## Measure what TorchServe, Triton, BentoML and a bare FastAPI cost on top of one model (hours; BENCH=--quick: minutes)
	lab/setup
	lab/setup --build
	lab/wheels
	lab/image/build bookworm
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	bench/runtimes/compare.py $(BENCH)

# Needs no daemon, only a container that answers by SSH.
bench-control: $(VENV)/complete ## Measure what a run that changes nothing costs the controller, for 1 to 100 hosts (an hour or two; BENCH=--quick: minutes)
	lab/setup
	lab/image/build
	bench/control/control.py $(BENCH)

# Programs that were built quickly for the lab are not what is measured, so the others come before the rest of the set-up.
bench-setup: $(VENV)/complete
	lab/setup
	lab/dragonfly/releases --optimised
	lab/stages setup
	lab/image/build bench
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt

# The stages, each of which can be run by itself once "make setup" is done.
lint:
	ruff check .
	ruff format --check .
	yamllint --strict .
	ansible-lint --offline
	shellcheck lab/setup lab/wheels lab/clean lab/image/build lab/image/containers lab/image/mirror roles/lab_node/files/podman lab/azurite/install lab/huggingface/install tests/collection tests/core .ci/run
	cd $(COLLECTION) && antsibull-changelog lint && antsibull-changelog lint-changelog-yaml changelogs/changelog.yaml

collection-tests:
	tests/collection

# The scenarios default and life show on a fleet what these show on stubs.
LIFE_TESTS := tests/test_doctor.py tests/test_life.py tests/test_verify.py
# Needs programs that take a quarter of an hour to build.
KUBERNETES_TESTS := tests/test_kubernetes.py

repository-tests:
	pytest --durations=15 tests $(LIFE_TESTS:%=--ignore=%) $(KUBERNETES_TESTS:%=--ignore=%)

life-tests:
	pytest $(LIFE_TESTS)

kubernetes-tests:
	pytest $(KUBERNETES_TESTS)

lab-tests:
	pytest lab bench

# FUZZ_INPUTS: how many for each property (10000). What nests too deep meets the garbage collector there, of which pytest would complain.
fuzz-tests:
	FUZZ=long pytest --numprocesses 2 -p no:unraisableexception tests/fuzz tests/plugin/test_fuzz.py

# A release of what is in the checkout, committed or not, by the JDK that is here, and unsigned.
release-rehearsal:
	rm -rf .cache/release
	release/release.py rehearse --dest .cache/release

# What "make setup" leaves out, because only these need it.
scenario-rollout: image-rollout
scenario-mixed scenario-runtimes: image-bookworm
scenario-manager: image-manager
scenario-compile: image-compile
scenario-containers: image-containers containers
scenario-monitoring: image-monitoring
scenario-offline: image-offline
scenario-rollout scenario-life: programs-before

image-%:
	lab/image/build $*

# What hosts of that scenario run, built without a registry.
containers:
	lab/image/containers

programs-before:
	lab/dragonfly/releases --before

scenario-%:
	lab/model/make_model.py --out .cache/files
	molecule test -s $* 2>&1 | tee .cache/molecule-$*.log
	@grep -q 'missing=0' .cache/molecule-$*.log || { echo "A step of the scenario $* is missing: a green recap would say nothing."; exit 1; }

clean: ## Remove the lab: hosts, network, image, Python environment, reports
	lab/clean

purge: clean ## Remove the cached downloads and builds too
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/modelfleet"
