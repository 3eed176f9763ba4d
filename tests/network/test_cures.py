"""Each cure of py-libp2p: the fault without it (all others installed), and none with all of them.

The scenarios run in `cure_lab`, which forks a child for each.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpisa.network.libp2p_host import cures
from mpisa.network.libp2p_host.cures import ALL_CURES, INSTALLERS, Cure
from mpisa.network.libp2p_host.version import check_version
from mpisa.primitives.errors import NotReady


@pytest.fixture(scope="module")
def lab():
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.network.cure_lab"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"

    def run(cure: Cure, installed) -> dict:
        order = {"scenario": cure.name.lower(), "cures": sorted(each.value for each in installed)}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(10)


FAULTS = {
    Cure.INBOUND_SLOT: (
        lambda seen: seen == {"connected": 4, "held": 4},
        lambda seen: seen == {"connected": 8, "held": 0},
    ),
    Cure.CONNECT_STAGGER: (lambda seen: seen["waited"], lambda seen: not seen["waited"]),
    Cure.PRIVATE_ADDRESS: (
        lambda seen: seen["warnings"] > 0,
        lambda seen: seen == {"warnings": 0, "known": True},
    ),
    Cure.CLOSED_PEER: (
        lambda seen: seen == {"echoed": True, "known": 0},
        lambda seen: seen == {"echoed": True, "known": 1},
    ),
    Cure.WHO_LEFT: (lambda seen: seen == {"noted": 100}, lambda seen: seen == {"noted": 32}),
    Cure.STREAM_COUNT: (lambda seen: seen["left"] == 5, lambda seen: seen == {"left": 0}),
    Cure.SHIELDED_WRITE: (lambda seen: seen["survived"] < 10, lambda seen: seen == {"survived": 10}),
    Cure.FRAME_SIZE: (lambda seen: seen["packets"] >= 8, lambda seen: seen["packets"] <= 6),
    Cure.WINDOW: (
        lambda seen: seen["updates"] >= 100 and seen["pauses"] > 10,
        lambda seen: seen == {"updates": 0, "pauses": 0},
    ),
    Cure.NOISE_READ: (lambda seen: seen["reads"] >= 100, lambda seen: seen["reads"] < 100),
    Cure.GOSSIP_QUEUES: (lambda seen: seen["heard"] < 300, lambda seen: seen == {"heard": 300}),
    Cure.SIGNED_RECORDS: (lambda seen: seen["checks"] >= 20, lambda seen: seen["checks"] <= 4),
    Cure.LATE_TASK: (lambda seen: seen == {"raised": "LifecycleError"}, lambda seen: seen == {"raised": None}),
    Cure.DHT_LAN: (
        lambda seen: seen == {"found": 0, "served": False, "taken": False},
        lambda seen: seen == {"found": 1, "served": True, "taken": True},
    ),
    Cure.DHT_END_OF_STREAM: (lambda seen: seen["warnings"] > 0, lambda seen: seen == {"warnings": 0}),
    Cure.DHT_PROVIDERS: (
        lambda seen: seen == {"answers": 3, "distinct": 1, "kept": 1, "keys": 31},
        lambda seen: seen == {"answers": 1, "distinct": 1, "kept": 0, "keys": 10},
    ),
    Cure.DHT_PROVIDE: (
        lambda seen: seen["provided"] and seen["lookups"] > 0,
        lambda seen: seen == {"provided": True, "lookups": 0},
    ),
}


@pytest.mark.parametrize("cure", FAULTS, ids=lambda cure: cure.value)
def test_the_fault_is_there_without_the_cure_and_gone_with_it(lab, cure):
    is_faulty, is_cured = FAULTS[cure]
    without = lab(cure, ALL_CURES - {cure})
    assert "failed" not in without
    assert is_faulty(without), without
    cured = lab(cure, ALL_CURES)
    assert "failed" not in cured
    assert is_cured(cured), cured


def test_every_cure_is_tried():
    assert set(FAULTS) == set(INSTALLERS) == set(Cure) == ALL_CURES


def test_cures_are_installed_once(monkeypatch):
    monkeypatch.setattr(cures, "_installed", set())
    installed = []
    monkeypatch.setattr(cures, "INSTALLERS", {cure: lambda: installed.append(1) for cure in Cure})
    cures.install({Cure.WINDOW})
    cures.install({Cure.WINDOW, Cure.FRAME_SIZE})
    cures.install()
    assert len(installed) == len(Cure)


def test_any_other_version_is_refused():
    check_version("0.8.1")
    for found in ("0.8.0", "0.8.2", "0.9.0", "none"):
        with pytest.raises(NotReady) as caught:
            check_version(found)
        assert str(caught.value) == f"this node repairs libp2p 0.8.1 as it runs, and found {found}"
        assert caught.value.hint == "install libp2p==0.8.1 into the node's environment"
