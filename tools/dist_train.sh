#!/usr/bin/env bash
# Train on several GPUs (or CPU processes), on one node or several.
#
#   bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS OF tools/train.py]
#
# Several nodes: the same command on each, with NNODES, NODE_RANK (0, 1, ...)
# and MASTER_ADDR (node 0) set; MASTER_PORT where 29500 is taken.
set -euo pipefail
if (($# < 2)); then
  echo "error: usage: bash tools/dist_train.sh CONFIG GPUS [ARGUMENTS]" >&2
  exit 2
fi
config=$1 gpus=$2
shift 2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec python -m \
  torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${MASTER_PORT:-29500}" \
  --nproc_per_node="$gpus" \
  "$root/tools/train.py" "$config" --launcher pytorch "$@"
