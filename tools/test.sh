#!/usr/bin/env bash
# Set up, check the style and run the tests.
#
#   bash tools/test.sh [--stack onedl|openmmlab] [--slow] [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup=()
pytest=()
while (($#)); do
  case $1 in
    --stack) setup+=("$1" "${2-}") && shift $(($# > 1 ? 2 : 1)) ;;
    --stack=*) setup+=("$1") && shift ;;
    *) pytest+=("$1") && shift ;;
  esac
done
bash tools/setup_env.sh ${setup[@]+"${setup[@]}"}

.venv/bin/python -m flake8 .
.venv/bin/python -m isort --check-only --quiet .
.venv/bin/python -m pytest -q tests ${pytest[@]+"${pytest[@]}"}
