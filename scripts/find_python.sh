#!/bin/sh
# Prints the first interpreter on PATH that the project supports (3.11 or 3.12), or says what to install.
for candidate in "${PYTHON:-}" python3.12 python3.11 python3 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
        "$candidate" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done
echo "make: Python 3.11 or 3.12 is needed (plyvel, the LevelDB binding, has no wheels for later ones)." >&2
echo "  Install one, or name it:  make PYTHON=/path/to/python3.12 ..." >&2
exit 1
