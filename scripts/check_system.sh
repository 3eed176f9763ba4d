#!/bin/sh
# Checks, before anything is built, for what a dependency must compile with, and prints what to type when it is missing.
# fastecdsa (a dependency of libp2p) has no wheels: it needs a C compiler, Python's headers and GMP's.
set -eu
python=$1
missing=""

command -v git >/dev/null 2>&1 || missing="$missing git"
if compiler=$(command -v cc || command -v gcc); then
    printf '#include <gmp.h>\nint main(void) { return 0; }\n' | "$compiler" -x c -fsyntax-only - 2>/dev/null || missing="$missing libgmp-dev"
else
    missing="$missing build-essential libgmp-dev" # without a compiler nobody can tell if GMP's headers are there
fi
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$headers/Python.h" ] || missing="$missing python3-dev"
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"

if [ -n "$missing" ]; then
    echo "make: this machine lacks what the dependencies are built with:$missing" >&2
    echo "  Debian, Ubuntu:  sudo apt-get install -y$missing" >&2
    echo "  Fedora:          sudo dnf install -y git gcc gmp-devel python3-devel" >&2
    echo "  macOS:           xcode-select --install && brew install gmp" >&2
    exit 1
fi
