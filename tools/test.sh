#!/usr/bin/env bash
# Set up, check style and types and run the unit tests. The AP of a detector is
# tools/test.py's business.
#
#   bash tools/test.sh [--stack onedl|openmmlab] [--slow] [PYTEST ARGUMENTS]
#
# Without paths among the arguments, pyproject.toml says which tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stack=onedl
pytest=()
while (($#)); do
  case $1 in
    --stack) stack=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --stack=*) stack=${1#*=} && shift ;;
    *) pytest+=("$1") && shift ;;
  esac
done
bash tools/setup_env.sh --stack "$stack"

venv=.venv
[[ $stack == onedl ]] || venv=.venv-$stack
$venv/bin/python -m flake8 .
$venv/bin/python -m isort --check-only --quiet .
$venv/bin/python -m yapf --diff --parallel --recursive \
  mmtern tools tests setup.py configs
$venv/bin/python -m mypy
$venv/bin/python -m pytest -q ${pytest[@]+"${pytest[@]}"}
