# Set-up is part of every target: nothing but python3 and make need be there. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage check faults fmt lab bench docs lock clean

PY := .venv/bin/python
HOSTS ?= 3
JOBS ?= 3
ARGS ?=
SEED ?=
N ?= 2000
COVERED ?= tests/unit tests/contract/cli
# The lab's and PostgreSQL's programs are Debian packages: root gets them, anybody else is told what stays untested.
PACKAGES := deployments/bootstrap/packages.sh

help:  ## say what there is to make
	@sed -nE 's/^([a-z-]+):.*##[ ]*(.*)/  make \1\t\2/p' Makefile | sed -E 's/ \(.*//; s/;.*//' | expand -t 18 | \
	  sed -E '/^.{101,}/s/^(.{1,100}),.*/\1/'
	@echo 'What follows "(" or ";" is in the Makefile. CONTRIBUTING.md says what to run when.'

setup:  ## make .venv from requirements.lock (all other targets do so first)
	@deployments/bootstrap/venv.sh

demo: setup  ## patch a small fleet of real machines, made here and removed afterwards (root, Debian)
	@$(PACKAGES) lab
	@$(PY) -m tests.lab.demo $(ARGS)

test: setup  ## run all tests, JOBS=3 at a time (with more, two cores are too slow; 0: one by one); ARGS="-k window" for some of them
	@$(PACKAGES) lab postgresql browser
	@$(PY) -m pytest -n $(JOBS) --no-loadscope-reorder $(ARGS)

coverage: setup  ## measure branch coverage of the fast tests (a table; pages in build/coverage; COVERED="tests/unit" for some)
	@rm -rf build/coverage build/coverage-data; mkdir -p build/coverage-data
	@.venv/bin/coverage run -m pytest -q -n $(JOBS) --no-loadscope-reorder $(ARGS) $(COVERED) || echo "coverage: tests failed" >&2
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage html --quiet
	@.venv/bin/coverage report

faults: setup  ## play N=2000 schedules of faults against the engine; SEED=… again; ARGS="--help" for more
	@$(PY) -m tests.faults --seed "$(SEED)" --cases $(N) $(ARGS)

check: setup  ## what needs no running: format, lint, types, layers, shell scripts, house rules
	@tests/ci/check.sh

fmt: setup  ## format and mend what ruff can mend
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format .

lab: setup  ## boot HOSTS=3 real machines that are behind on updates; tests/lab/lab.sh down removes them
	@$(PACKAGES) lab
	@tests/lab/lab.sh up $(HOSTS)

bench: setup  ## measure assessing and patching 20 lab machines beside OpenSSH and Ansible; ARGS="--hosts 5"
	@$(PACKAGES) lab
	@$(PY) -m tests.bench.assess $(ARGS)
	@$(PY) -m tests.bench.patch $(ARGS)

docs: setup  ## check the documents and build them as a site, with the Python API, in build/site
	@$(PY) -m pytest -q tests/unit/test_documents.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "docs: open build/site/index.html"

lock: setup  ## write requirements.lock anew from pyproject.toml
	@tests/ci/lock.sh $(ARGS)

clean:  ## remove what was made here: .venv, caches, reports
	@rm -rf .venv .venv.lock build dist reports .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
