#!/usr/bin/env bash
# Set up, then train, test, export and draw a ternary detector on the embedded
# data set. Arguments go to tools/demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
.venv/bin/python tools/demo.py "$@"
