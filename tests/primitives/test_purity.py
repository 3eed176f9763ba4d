"""The room is pure: it imports nothing that does I/O, tells the time, draws randomness or logs."""

import ast
from pathlib import Path

import mpisa.primitives.errors as room

FORBIDDEN = {
    *("aiohttp", "asyncio", "concurrent", "datetime", "io", "libp2p", "logging", "multiprocessing", "os", "pathlib"),
    *("plyvel", "random", "secrets", "shutil", "signal", "socket", "ssl", "structlog", "subprocess", "sys", "tempfile"),
    *("threading", "time", "trio", "uuid", "uvloop"),
}


def test_nothing_impure_is_imported() -> None:
    assert room.__file__ is not None
    found = []
    for file in sorted(Path(room.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [(file.name, name) for name in names if name.split(".")[0] in FORBIDDEN]
    assert found == []
