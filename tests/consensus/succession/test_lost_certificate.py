"""The certificate that opened an epoch is gone after a power cut, what was signed in that epoch isn't."""

from consensus.dag.vertex import decode_vertex
from consensus.events import RequestCertificate
from mpisa.primitives.identifiers import Epoch
from tests.consensus.succession.town import CLOSE, PARAMETERS, Town, committee

NEXT = Epoch(1)


def test_what_was_signed_in_the_next_epoch_is_known_before_it_opens_again() -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"same")
    node = town.citizens[2]
    town.until(lambda: NEXT in node.disk.proposals, "a proposal of epoch 1")
    node.crash()
    node.disk.certificates.clear()
    assert all(header.epoch == 0 for header in node.disk.headers), "no header of epoch 1 tells that it was open"
    sent = decode_vertex(node.disk.proposals[NEXT].raw, PARAMETERS).round
    node.boot()
    assert node.running.epoch == 0
    town.citizens[0].submit(b"after")
    town.until(lambda: town.in_epoch(1), "epoch 1")
    town.until(lambda: decode_vertex(node.disk.proposals[NEXT].raw, PARAMETERS).round > sent, "it proposes again")
    town.check()


def test_a_node_that_no_signature_reaches_asks_for_the_certificate() -> None:
    """Pushed signatures get lost, and the others have gone on: the certificate itself is asked for."""
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    node = town.citizens[2]
    town.citizens[0].submit(CLOSE + b"same")
    town.until(lambda: bool(node.disk.headers and node.disk.headers[-1].closes_epoch), "executed", step_ms=1)
    town.cut.add(2)
    town.citizens[0].submit(b"after")
    town.until(lambda: town.in_epoch(1, 0, 1, 3), "the others go on")
    assert node.running.epoch == 0
    marks = len(node.effects)
    town.cut.clear()
    town.until(lambda: town.in_epoch(1), "it is there too")
    assert any(isinstance(effect, RequestCertificate) for effect in node.effects[marks:])
    town.check()
