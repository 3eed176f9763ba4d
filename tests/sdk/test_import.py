"""What importing costs: no HTTP library, no node, no libp2p until they are needed."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("aiohttp", "libp2p", "trio", "plyvel", "mpisa.node", "mpisa.network", "mpisa.ledger", "storage", "consensus")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_package_imports_nothing() -> None:
    code = "import sys; before = set(sys.modules); import mpisa; print(sorted(set(sys.modules) - before))"
    assert run(code).strip() == "['mpisa']"


def test_the_package_offers_its_names_lazily() -> None:
    code = (
        "import mpisa; print(mpisa.__version__, mpisa.errors.NotFound.__name__, mpisa.Client.__name__, "
        "mpisa.AsyncClient.__name__, hasattr(mpisa, 'nothing'), dir(mpisa))"
    )
    names = "['AsyncClient', 'Client', '__version__', 'errors']"
    assert run(code).strip().endswith(f"NotFound Client AsyncClient False {names}")


def test_the_sdk_is_light() -> None:
    code = f"import sys, mpisa.sdk; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code).strip() == "[]"


def test_a_client_is_light_until_its_first_request() -> None:
    code = (
        "import sys; from mpisa.sdk import Client; client = Client('http://127.0.0.1:1'); client.endpoint; "
        "import mpisa.sdk.wallet, mpisa.sdk.publishing, mpisa.sdk.light, mpisa.sdk.upload, mpisa.sdk.download; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_a_users_own_storage_module_does_not_matter(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "storage.py").write_text("raise RuntimeError('shadowed')")
    place = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    code = place + "from mpisa.sdk import Client, wallet; print(Client.__name__)"
    assert run(code).strip() == "Client"
