#!/usr/bin/env bash
# Writes the locks from pyproject.toml: every package with its hashes, for each system and each Python from 3.11 on.
#
#   requirements.lock        what fleetpatch needs to run: the project's dependencies, and nothing else
#   requirements-build.lock  what builds the wheel
#   requirements-dev.lock    both, and what tests, checks and documents need
#
#   lock.sh              keep what is locked where it still fits
#   lock.sh --upgrade    the newest of everything that fits (also: --upgrade-package NAME)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

compile() { # words of uv: sources, --output-file
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url "$@"
}

# Production comes first, and the others are held to it: the tests run with the versions that production has.
compile pyproject.toml --output-file requirements.lock "$@"
compile pyproject.toml --group dev --group docs --constraints requirements.lock --output-file requirements-dev.lock "$@"
compile --group build --constraints requirements-dev.lock --output-file requirements-build.lock "$@"
compile tests/bench/requirements.in --output-file tests/bench/requirements.txt "$@"
