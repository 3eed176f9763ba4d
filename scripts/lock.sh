#!/bin/sh
# Rewrites the hash-pinned requirement lists from pyproject.toml and requirements/*.in. Run by `make lock`.
set -eu
uv=.venv/bin/uv
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
compile requirements/uv.in -o requirements/uv.txt
compile pyproject.toml requirements/build.in -o requirements/run.txt
compile pyproject.toml requirements/build.in --group dev -o requirements/dev.txt
compile --no-deps requirements/demo.in -o requirements/demo.txt
compile --no-deps requirements/interop.in -o requirements/interop.txt
