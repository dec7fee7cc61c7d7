#!/usr/bin/env bash
# Create .venv in the repository root and install pinned versions of torch,
# mmcv, mmengine, mmdet, the test tools and mmtern itself (editable). The
# classic stack goes to .venv-openmmlab, beside it.
#
#   bash tools/setup_env.sh [--stack onedl|openmmlab]
#
# Run again with nothing changed, it returns at once. An unfinished or outdated
# folder is built anew; pip's cache keeps downloads and the compiled mmcv.
# Environment variables:
#   PYTHON              interpreter to use, 3.10 to 3.13 (default: python3)
#   PIP_FIND_LINKS      folders with wheels, e.g. of mmcv, to save its compile
#   MMTERN_TORCH_INDEX  index that offers torch; default: PyTorch's CPU index
#                       where no CUDA device is visible and pip's own sources
#                       hold no CPU build, else pip's own sources
#   MAX_JOBS            parallel compilers for mmcv (default: all cores)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NEED_KB=$((6 * 1024 * 1024)) HEARTBEAT=30
readonly TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

die() { echo "error: $*" >&2 && exit 1; }
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

stack=onedl
while (($#)); do
  case $1 in
    --stack) stack=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --stack=*) stack=${1#*=} && shift ;;
    *) die "unknown argument '$1'; known is --stack onedl|openmmlab" ;;
  esac
done
case $stack in
  onedl) readonly VENV=.venv ;;
  openmmlab) readonly VENV=.venv-openmmlab ;;
  *) die "--stack must be onedl or openmmlab, got '$stack'" ;;
esac
readonly REQUIREMENTS=tools/requirements/$stack.txt
readonly STAMP=$VENV/complete PY=$VENV/bin/python LOG=$VENV/setup.log

# One set-up at a time. Children inherit the lock, so what a killed set-up has
# left running cannot write into the folder of the next one.
if command -v flock >/dev/null; then
  exec 9<tools/setup_env.sh
  flock -n 9 || { say 'waiting for another set-up of this folder' && flock 9; }
fi

python=${PYTHON:-python3}
# Without PYTHON, a finished folder may keep the interpreter it was built with.
if [[ -z ${PYTHON-} && -x $PY && -e $STAMP ]]; then python=$PY; fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
  2>/dev/null) || die "'$python' does not run; set PYTHON to a Python 3.10 to 3.13"
case $version in
  3.10 | 3.11 | 3.12 | 3.13) ;;
  *) die "'$python' is Python $version, but 3.10 to 3.13 is needed; set PYTHON" ;;
esac

# An environment does not survive a move, hence the folder.
key=$(echo "$stack $version $PWD" |
  cat - tools/requirements/common.txt "$REQUIREMENTS" \
    setup.py pyproject.toml mmtern/version.py |
  cksum)
if [[ -e $STAMP && $(<"$STAMP") == "$key" ]] && $PY -c '' 2>/dev/null; then
  say "set up already ($stack, Python $version)"
  exit 0
fi

if [[ $python == "$PY" ]]; then python=$($PY -c 'import sys; print(sys._base_executable)'); fi
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
  die "'$python' lacks the module venv; install it (Debian: python$version-venv)"
free=$(df -Pk . | awk 'NR == 2 {print $4}')
((free >= NEED_KB)) ||
  die "only $((free / 1024)) MB are free on this disk, but 6 GB are needed"

child=
stop() { [[ -z $child ]] || kill -- "-$child" 2>/dev/null || true; }
trap stop EXIT
trap 'exit 130' INT TERM HUP

# phase TITLE COMMAND...: runs it into the log, with a line now and then.
phase() {
  say "$1"
  local next=$((SECONDS + HEARTBEAT)) title=$1
  shift
  # A process group of its own, so that stop reaches the compilers, too.
  set -m
  "$@" >>$LOG 2>&1 </dev/null &
  child=$!
  set +m
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS >= next)); then
      say "  still at it: $title"
      next=$((SECONDS + HEARTBEAT))
    fi
  done
  if ! wait "$child"; then
    tail -n 15 $LOG >&2
    die "'$title' failed; $LOG tells all"
  fi
  child=
}
pip() { $PY -m pip --disable-pip-version-check "$@"; }
# pin NAME: its line in the requirements, e.g. torch==2.13.0.
pin() { cat "$REQUIREMENTS" tools/requirements/common.txt | grep -E "^$1=="; }
# offered ARGUMENTS...: address of what pip would install, nothing if none.
offered() {
  pip install --dry-run --ignore-installed --no-deps --quiet --report - \
    --timeout 20 --retries 1 "$@" 2>>$LOG | grep -oE '"url": *"[^"]*"' || true
}
cuda_visible() {
  [[ ${CUDA_VISIBLE_DEVICES-all} != '' && ${CUDA_VISIBLE_DEVICES-} != -1 ]] &&
    nvidia-smi -L >/dev/null 2>&1
}

if [[ -e $VENV ]]; then
  say "removing the $VENV at hand: unfinished or outdated"
  # The stamp first: an interrupted removal must not look complete.
  rm -f $STAMP && rm -rf $VENV
fi
say "a new $VENV: $stack stack, Python $version, log in $LOG"
"$python" -m venv $VENV
# The pin keeps torch from bringing the newest setuptools.
phase 'build tools' \
  pip install 'pip>=23' wheel "$(pin setuptools)" "$(pin ninja)"

mmcv=$(pin '(onedl-)?mmcv')
compile=
if [[ -z $(offered --only-binary :all: "$mmcv") ]]; then
  compile=' (compiles, about 10 minutes on 2 cores)'
  command -v "${CXX:-c++}" >/dev/null ||
    die "no C++ compiler, but pip finds no wheel of $mmcv; install g++ or set CXX"
  if cuda_visible && ! command -v "${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" >/dev/null; then
    die 'no nvcc, which mmcv needs beside a CUDA device; install the CUDA' \
      'toolkit, or hide the device by CUDA_VISIBLE_DEVICES='
  fi
fi

index=
if [[ -n ${MMTERN_TORCH_INDEX-} ]]; then
  # Only torch itself; what it needs comes from pip's own sources below.
  phase 'torch from MMTERN_TORCH_INDEX' \
    pip install --no-deps --index-url "$MMTERN_TORCH_INDEX" "$(pin torch)"
elif [[ $(uname) == Linux ]] && ! cuda_visible &&
  [[ $(offered "$(pin torch)") != *[+B]cpu-* ]]; then
  # The build for CUDA would bring gigabytes of libraries.
  index=--extra-index-url=$TORCH_CPU_INDEX
  if [[ $(offered "$index" "$(pin torch)") != *[+B]cpu-* ]]; then
    say 'no CPU build of torch within reach: taking what pip offers' \
      '(MMTERN_TORCH_INDEX names an index that has one)'
    index=
  fi
fi
phase 'torch' pip install ${index:+"$index"} "$(pin torch)" "$(pin numpy)"

# The default -g makes the build twice as long and the library 20 times larger.
export CXXFLAGS="${CXXFLAGS-} -O2 -g0" MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
phase "mmcv$compile" pip install --no-build-isolation --no-deps "$mmcv"
phase 'mmengine, mmdet and tools' \
  pip install --no-build-isolation -r "$REQUIREMENTS"
# Full opencv needs libGL; the headless one must have written last.
phase 'opencv without libGL' \
  pip install --force-reinstall --no-deps "$(pin opencv-python-headless)"
phase 'mmtern' pip install --no-build-isolation --no-deps -e .

if ! $PY -c 'import mmcv.ops' >>$LOG 2>&1; then
  phase 'mmcv anew, as the wheel at hand is for another torch (compiles)' \
    pip install --no-build-isolation --no-deps --force-reinstall \
    --no-cache-dir --no-binary "${mmcv%%==*}" "$mmcv"
fi
phase 'check' $PY -c 'import cv2, mmcv.ops, mmdet, mmtern'
echo "$key" >$STAMP
say "done; activate it with: source $VENV/bin/activate"
