# Set-up is part of every target: nothing but python3 and make need be there. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-near coverage coverage-windows check kerberos faults attacks reports soak fmt lab bench year docs lock clean

# Tests start many processes: each would compile this checkout again.
unexport PYTHONDONTWRITEBYTECODE

PY := .venv/bin/python
HOSTS ?= 3
JOBS ?= 7
CORES := $(shell nproc 2>/dev/null || echo 2)
ARGS ?=
SEED ?=
SINCE ?=
N ?= 2000
KEY ?=
SIGNERS ?=
TO ?= dist
COVERED ?= tests/unit tests/contract/cli
ON_WINDOWS ?= tests/contract/windows tests/contract/winrm tests/lab/windows $(wildcard tests/contract/test_windows_*.py \
  tests/contract/test_powershell_*.py tests/contract/test_machine_lock_script.py)
# The lab's and PostgreSQL's programs are Debian packages: root gets them, anybody else is told what stays untested.
PACKAGES := deployments/bootstrap/packages.sh

help:  ## say what there is to make
	@sed -nE 's/^([a-z-]+):.*##[ ]*(.*)/  make \1\t\2/p' Makefile | sed -E 's/ \(.*//; s/;.*//' | expand -t 18 | \
	  sed -E '/^.{101,}/s/^(.{1,100}),.*/\1/'
	@echo 'What follows "(" or ";" is in the Makefile. CONTRIBUTING.md says what to run when.'

setup:  ## make .venv from requirements-dev.lock (all other targets do so first)
	@deployments/bootstrap/venv.sh

demo: setup  ## patch a small fleet of real machines, made here, with its pages; ARGS=--keep: until Ctrl-C (root, Debian)
	@$(PACKAGES) lab
	@$(PY) -m tests.lab.demo $(ARGS)

test: setup  ## run all tests, JOBS=7 at a time (they wait a lot; 0: one by one); ARGS="-k window" for some
	@$(PACKAGES) lab postgresql redis browser prometheus nginx shells ldap oidc events vm
	@$(PY) -m pytest -n $(JOBS) --no-loadscope-reorder $(ARGS)

# All units, and the command on a simulated fleet, but for tests that start programs or read huge files (marker: slow).
test-fast: setup  ## run the tests of a minute: no machines, no servers, no browser
	@$(PY) -m pytest -q -n $(CORES) --dist worksteal -m "not slow" $(ARGS) tests/unit tests/contract/cli

test-near: setup  ## run the tests near to a change, in under three minutes; SINCE=HEAD~3 (uncommitted, or last commit), ARGS=--list
	@$(PY) -m tests.ci.near --jobs $(JOBS) $(if $(SINCE),--since "$(SINCE)") $(ARGS)

coverage: setup  ## measure branch coverage of the fast tests (a table; pages in build/coverage; COVERED="tests/unit" for some)
	@rm -rf build/coverage build/coverage-data; mkdir -p build/coverage-data
	@.venv/bin/coverage run -m pytest -q -n $(JOBS) --no-loadscope-reorder $(ARGS) $(COVERED) || touch build/coverage-data/failed
	@.venv/bin/coverage combine --quiet
	@.venv/bin/coverage html --quiet
	@.venv/bin/coverage report
	@[ ! -e build/coverage-data/failed ] || { echo "coverage: tests failed" >&2; exit 1; }

coverage-windows: RAN := build/powershell-coverage
coverage-windows: setup  ## measure which lines of the scripts for Windows the tests execute (a table; needs pwsh on PATH)
	@rm -rf $(RAN); mkdir -p $(RAN)
	@POWERSHELL_COVERAGE=$(CURDIR)/$(RAN) $(PY) -m pytest -q -n $(JOBS) --no-loadscope-reorder $(ARGS) \
	  $(ON_WINDOWS) || touch $(RAN)/failed
	@$(PY) -m tests.ci.powershell_coverage $(RAN)
	@[ ! -e $(RAN)/failed ] || { echo "coverage-windows: tests failed" >&2; exit 1; }

kerberos: setup  ## log in to a Windows host with Kerberos, with a real KDC (compiles its libraries: gcc, libkrb5-dev, krb5-kdc)
	@[ -d build/kerberos/gssapi ] || $(PY) -m pip install --quiet --no-deps --target build/kerberos \
	  pykerberos==1.2.4 gssapi==1.12.0 krb5==0.10.0 decorator==5.3.1
	@PYTHONPATH=build/kerberos $(PY) -m pytest -q $(ARGS) tests/contract/winrm/kerberos_with_a_kdc.py

faults: setup  ## play N=2000 schedules of faults against the engine; SEED=… again; ARGS="--help" for more
	@$(PY) -m tests.faults --seed "$(SEED)" --cases $(N) $(ARGS)

attacks: setup  ## attack the doors from outside, as another user, origin, port or by SQL, and print each attack
	@$(PACKAGES) lab postgresql browser
	@$(PY) -m pytest -v -n $(CORES) $(ARGS) tests/attacks tests/flows/test_attacked_policy.py

check: setup  ## what needs no running: format, lint, types, layers, shell scripts, house rules
	@tests/ci/check.sh

reports: setup  ## play the situations of public bug reports on real machines, and print each verdict (root, Debian)
	@$(PACKAGES) lab
	@$(PY) -m tests.lab.reports $(ARGS)

soak: N = 20000
soak: setup  ## before a release: N=20000 schedules of faults, those on machines, random ones on Windows, all broken laws, 20 random kills
	@$(PACKAGES) lab
	@$(PY) -m tests.faults --seed "$(SEED)" --cases $(N) --minutes 60
	@$(PY) -m tests.faults --seed "$(SEED)" --cases $(N) --minutes 60 --sites
	@$(PY) -m tests.faults --seed "$(SEED)" --mutations
	@$(PY) -m tests.faults --machines
	@$(PY) -m tests.faults --seed "$(SEED)" --random --minutes 20
	@HYPOTHESIS_PROFILE=thorough $(PY) -m pytest -q -n $(CORES) --dist worksteal tests/unit tests/contract/providers \
	  tests/contract/test_calendar_prefect.py
	@$(PY) -m tests.lab.kill_and_resume $(ARGS)
	@$(PY) -m pytest -n 2 --no-loadscope-reorder --release only

fmt: setup  ## format and mend what ruff can mend
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format .

lab: setup  ## boot HOSTS=3 real machines that are behind on updates; tests/lab/lab.sh down removes them
	@$(PACKAGES) lab
	@tests/lab/lab.sh up $(HOSTS)

bench: setup  ## measure assessing and patching lab machines beside OpenSSH and Ansible; ARGS="--hosts 5 --before FOLDER"
	@$(PACKAGES) lab
	@$(PY) -m tests.bench.assess $(ARGS)
	@$(PY) -m tests.bench.patch $(ARGS)

year: setup  ## simulate a year of automatic patching of 2,000 machines, and check each rule (minutes; ARGS="--machines 200")
	@$(PY) -m tests.bench.automatic_year $(ARGS)

docs: setup  ## check the documents and build them as a site, with the Python API, in build/site
	@$(PY) -m pytest -q tests/unit/test_documents.py
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "docs: open build/site/index.html"

lock: setup  ## write the three locks anew from pyproject.toml
	@tests/ci/lock.sh $(ARGS)

# For a bill of materials, sdist, wheel, provenance and signed checksums. docs/how-to/release.md.
release: setup  ## build and sign the commit that is checked out; KEY=~/.ssh/release (an Ed25519 key of OpenSSH), TO=dist
	@$(PY) -m tests.ci.release --key "$(KEY)" --to "$(TO)"

verify-release:  ## verify a release; TO=dist, SIGNERS=file of allowed signers (ssh-keygen)
	@tests/ci/verify_release.sh "$(TO)" "$(SIGNERS)"

images:  ## say which images of containers are not pinned by digest; ARGS=--pin: pin them (needs skopeo and the network)
	@deployments/compose/images.sh $(ARGS)

clean:  ## remove what was made here: .venv, caches, reports
	@rm -rf .venv .venv.lock build dist reports .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
