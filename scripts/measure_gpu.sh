#!/usr/bin/env bash
# All that docs/performance.md tells of a GPU, measured there in some eight minutes, as files in a folder:
#
#     scripts/measure_gpu.sh FOLDER [SCAN...]
#
# Needs a CUDA build of torch and what `pip install .` brings (rosbags, mcap and matplotlib are not used), and pytest with
# hypothesis for the tests. spconv or torchsparse is timed beside where it is installed. Without scans: simulated ones.
# PYTHON=... chooses the interpreter.
set -u
[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) && shift || exit
scans=()
for scan in "$@"; do scans+=("$(realpath "$scan")"); done
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" COLUMNS=140
failed=0

has() { "$python" -c "import importlib.util as i, sys; sys.exit(i.find_spec('$1') is None)"; }

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2
    shift 2
    echo "$name"
    printf '%s\n\n' "$*" >"$out/$name.txt"
    timeout "$seconds" "$@" >>"$out/$name.txt" 2>&1 && return
    echo "  ended with $?: see $out/$name.txt"
    failed=1
}

backends=(--backend torch --backend triton)
peer=unfolded
if has torchsparse; then backends+=(--backend torchsparse) peer=torchsparse; fi
if has spconv; then peer=spconv; fi
if has xdist; then together=(-n 4); else together=(); fi
formats=(--precision fp32 --precision bf16 --precision fp16)
wide=(--width 256 --scales 2,4,8,16,16,16) # the authors' large network
on_gpu=(--device cuda "${formats[@]}")
twodpass=("$python" -m twodpass_core)

step machine 30 nvidia-smi
step tests 150 "$python" -m pytest -q -rs -p no:cacheprovider "${together[@]}" \
    test/test_gpu_agreement.py test/test_triton_backend.py test/test_backend_*.py test/test_segmenter.py \
    test/test_device.py test/test_waits.py
step scan 90 "${twodpass[@]}" benchmark "${scans[@]:0:1}" "${on_gpu[@]}" "${backends[@]}" --peer "$peer" --repeats 30
step scan_wide 90 "${twodpass[@]}" benchmark "${scans[@]:0:1}" "${on_gpu[@]}" "${wide[@]}" "${backends[@]}" --peer none --repeats 10
step training 60 "${twodpass[@]}" benchmark-training "${scans[@]}" "${on_gpu[@]}" --batch 8
step training_wide 60 "${twodpass[@]}" benchmark-training "${scans[@]}" "${on_gpu[@]}" "${wide[@]}" --batch 4 --repeats 3
step kernels 60 "${twodpass[@]}" benchmark-kernels "${scans[@]:0:1}" "${on_gpu[@]}" --backend triton
step kernels_wide 60 "${twodpass[@]}" benchmark-kernels "${scans[@]:0:1}" "${on_gpu[@]}" "${wide[@]}" --backend triton
exit $failed
