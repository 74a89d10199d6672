#!/usr/bin/env bash
# Makes .venv: the Python packages, ROS 2 from PyPI when none is sourced, the messages and nodes built by colcon, and
# ros2.sh, which puts a shell into all that. Does what is not done yet, so that a second run takes a moment.
# PYTHON=python3.12 chooses another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
repository=$PWD
venv=$repository/.venv
log=$venv/setup.log

say() { printf '== %s\n' "$*"; }

# One set-up at a time in this folder; the script itself is the lock.
exec 9<scripts/setup.sh
if ! flock --nonblock 9; then
  say "Waiting for another set-up of this folder"
  flock 9
fi

# run WHAT COMMAND...: the output goes to the log; every ten seconds a line tells how far it is.
ticker=
trap '[[ -z $ticker ]] || kill "$ticker" 2>/dev/null' EXIT
run() {
  local what=$1 started=$SECONDS status=0
  shift
  say "$what"
  while sleep 10 >/dev/null 2>&1 9<&-; do
    printf '   %4d s  %.100s\n' "$((SECONDS - started))" "$(grep -v WARNING "$log" | tail -n 1)"
  done &
  ticker=$!
  "$@" >>"$log" 2>&1 || status=$?
  kill "$ticker" 2>/dev/null || true
  ticker=
  if ((status)); then
    tail -n 40 "$log" >&2
    printf 'Failed: %s. The whole output is in %s\n' "$what" "$log" >&2
    exit "$status"
  fi
}

# --- What the machine must have -------------------------------------------------------------------------------------

# rosidl's CMake stumbles over anything but ASCII, colcon's scripts over spaces.
if LC_ALL=C grep -q '[^A-Za-z0-9/._+@%,=~-]' <<<"$repository"; then
  echo "ROS 2 packages cannot be built in '$repository': move this folder to a path of plain letters, digits and . _ - only" >&2
  exit 1
fi

requested=${PYTHON:-}
if [[ -z $requested ]]; then
  requested=python3
  "$venv/bin/python" -c '' 2>/dev/null && requested=$venv/bin/python # what .venv was made with
fi
if ! command -v "$requested" >/dev/null; then
  if [[ -n ${PYTHON:-} ]]; then
    echo "PYTHON=$PYTHON was not found: name an interpreter that is there, or leave PYTHON= out" >&2
  else
    echo "Python is missing, there is no python3: sudo apt install python3" >&2
  fi
  exit 1
fi
# The interpreter under an active virtual environment, this project's among them.
python=$("$requested" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))'; then
  echo "$requested is Python $version, and twodpass needs 3.10 to 3.14: make setup PYTHON=python3.12" >&2
  exit 1
fi

packages=()
need() { printf '%s\n' "$1" >&2; packages+=("$2"); }
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  need "Python's venv module is missing: it makes the virtual environment." "python$version-venv"
"$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
  need "Python's header Python.h is missing: the ROS messages are compiled against it." "python$version-dev"
command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
  need "A C++ compiler is missing: the ROS messages are compiled." g++
if ((${#packages[@]})); then
  echo "Please install: sudo apt install ${packages[*]}" >&2
  exit 1
fi

# The sourced ROS 2, if any: what is on AMENT_PREFIX_PATH and is not ours.
underlay=$(tr ':' '\n' <<<"${AMENT_PREFIX_PATH:-}" | grep -v -e '^$' -e "^$venv" | paste -sd: || true)
if [[ -n $underlay ]] && ! "$python" -c 'import rclpy' 2>/dev/null; then
  echo "The sourced ROS 2 ($underlay) does not work with Python $version: choose its Python by PYTHON=..., or open a shell without it." >&2
  exit 1
fi
machine=$(uname -m)
if [[ -z $underlay && $machine != x86_64 ]]; then
  echo "PyPI has ROS 2 for x86_64 only, and this is $machine: install ROS 2, source its setup.bash and run this again. Without ROS, \`pip install .\` gives the command twodpass." >&2
  exit 1
fi

# --- The virtual environment ----------------------------------------------------------------------------------------

# done_already NAME WANTED: has the step been done for exactly these inputs?
done_already() { [[ -f $venv/stamps/$1 && $(<"$venv/stamps/$1") == "$2" ]]; }
mark_done() { mkdir -p "$venv/stamps" && printf '%s\n' "$2" >"$venv/stamps/$1"; }

if [[ -n $underlay ]]; then
  kind="beside the sourced ROS 2" options=--system-site-packages constraints=constraints/ros.txt extras=bags,dev,train
else
  kind="with ROS 2 from PyPI" options="" constraints=constraints/ci.txt extras=bags,dev,ros,train
fi
if ! done_already venv "$venv $python $version $kind"; then
  say "Making the virtual environment .venv: Python $version, $kind"
  rm -rf "$venv"
  "$python" -m venv $options "$venv"
  mark_done venv "$venv $python $version $kind"
fi
. "$venv/bin/activate"

wanted=$(sha256sum setup.py package.xml "$constraints")
if ! done_already packages "$wanted"; then
  : >"$log"
  install=(pip install --disable-pip-version-check --progress-bar off -c "$constraints")
  run "Installing PyTorch (the largest part)" "${install[@]}" torch
  run "Installing what builds twodpass" "${install[@]}" "setuptools>=64,<80" wheel
  run "Installing twodpass and what it needs" "${install[@]}" --no-build-isolation -e ".[$extras]"
  rm -rf "$venv/ros2"
  mark_done packages "$wanted"
fi

# --- The ROS 2 package ----------------------------------------------------------------------------------------------

# The wheels make the virtual environment a ROS 2 prefix like one from apt; local_setup.sh is the file they do not bring.
# LD_LIBRARY_PATH and the guard spare their .pth file from starting every Python twice.
if [[ -z $underlay ]]; then
  cat >"$venv/local_setup.sh" <<EOF
export AMENT_PREFIX_PATH='$venv'
export CMAKE_PREFIX_PATH='$venv'
export LD_LIBRARY_PATH='$venv/lib$(printf ':%s' "$venv"/lib/python"$version"/site-packages/ros_*.libs)'"\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
EOF
  . "$venv/local_setup.sh"
elif ! command -v colcon >/dev/null; then
  echo "colcon is missing: sudo apt install python3-colcon-common-extensions" >&2
  exit 1
fi

# PyPI lacks tf2_msgs, the type of /tf: a package of that name with this one message takes its place.
sources=("$repository" "$repository/scripts/tf2_msgs")
IFS=: read -ra prefixes <<<"${underlay:-$venv}"
for prefix in "${prefixes[@]}"; do
  [[ ! -d $prefix/share/tf2_msgs ]] || sources=("$repository")
done

# Python files are linked, not copied: the build depends on which there are, not on what they say.
wanted=$(
  printf '%s\n' "$underlay" "${sources[@]}"
  sha256sum CMakeLists.txt cmake/* package.xml msg/* scripts/nodes/* scripts/tf2_msgs/*.* scripts/tf2_msgs/msg/*
  find twodpass_ros twodpass_core launch config -type f ! -name '*.pyc' | sort
)
if [[ ! -d $venv/ros2 ]] || ! done_already build "$wanted"; then
  run "Building the messages and nodes" colcon --log-base "$venv/ros2/log" build --symlink-install --merge-install \
    --base-paths "${sources[@]}" --build-base "$venv/ros2/build" --install-base "$venv/ros2/install"
  mark_done build "$wanted"
fi

# As twodpass_ros/dds_settings.py has it.
suffix=
case "${ROS_DISTRO:-}" in
  humble) suffix='$([ "${ROS_LOCALHOST_ONLY:-}" != 1 ] || echo _localhost)' ;;&
  humble | jazzy) profile=FASTRTPS_DEFAULT_PROFILES_FILE ;;
  *) profile=FASTDDS_DEFAULT_PROFILES_FILE ;;
esac
cat >"$venv/ros2.sh" <<EOF
# Written by scripts/setup.sh. Source it: twodpass, its nodes and messages, and ROS 2 are then there.
. '$venv/bin/activate'
. '$venv/ros2/install/setup.sh'
# The sources go before their installed links, so that a new file counts at once.
export PYTHONPATH="$repository:\$PYTHONPATH"
# Room for clouds in Fast DDS and in Cyclone DDS; your own settings go first.
export $profile="\${$profile:-$repository/config/fastdds$suffix.xml}"
export CYCLONEDDS_URI="\${CYCLONEDDS_URI:-file://$repository/config/cyclonedds.xml}"
EOF
say "Ready (Python $version, $kind): source .venv/ros2.sh"
