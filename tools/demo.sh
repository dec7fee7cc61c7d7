#!/usr/bin/env bash
# Set up, then train, test, export and draw a ternary detector on the embedded
# data set. Arguments go to tools/demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup_env.sh
# Threads that wait must not spin on cores that others could use: beside one
# more busy process a step took ten times as long.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY-passive}
.venv/bin/python tools/demo.py "$@"
