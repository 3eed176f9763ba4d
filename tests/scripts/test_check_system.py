"""What `make` says, before it builds anything, on a machine that lacks something."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_system.sh"


def check(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), sys.executable], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_all_that_is_missing_is_named_at_once_with_what_to_type(tmp_path: Path) -> None:
    done = check(str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "make: this machine lacks what the dependencies are built with: git build-essential libgmp-dev",
        "  Debian, Ubuntu:  sudo apt-get install -y git build-essential libgmp-dev",
    ]


def test_a_machine_that_has_all_of_it_is_told_nothing() -> None:
    done = check("/usr/local/bin:/usr/bin:/bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
