"""What peers send: garbage is refused, questions are answered within bounds, missing certificates are fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consensus.dag.vertex import ExecutionSignature, VertexRef, decode_vertex, encode_vertex, sign_vertex
from consensus.events import EpochAhead
from consensus.parameters import Parameters
from mpisa.config import Role
from mpisa.network.ports import LinkRule, NetworkConfig, PeerId
from mpisa.node import certificates, links
from mpisa.node.home import Home
from mpisa.node.inbox import Inbox
from mpisa.primitives import codec
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason
from mpisa.primitives.header import verify_certificate
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round
from tests.node.cluster import Cluster, key_of, running, until

ALICE = key_of("account 0")
EPOCH = Epoch(0)


def peer(cluster: Cluster, number: int) -> PeerId:
    return cluster.nodes[number]._running.network.peer_id


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", RejectionReason.MALFORMED),
        (b"X123", RejectionReason.MALFORMED),
        (b"V", RejectionReason.MALFORMED),
        (b"V\xc1", RejectionReason.MALFORMED),
        (b"S" + codec.encode((0, 1, bytes(32))), RejectionReason.MALFORMED),
        (b"S" + codec.encode((0, 0, bytes(32), bytes(64))), RejectionReason.OUT_OF_RANGE),
        (b"S" + bytes(300), RejectionReason.TOO_LARGE),
    ],
)
async def test_a_bad_frame_is_refused_and_counted(tmp_path: Path, frame: bytes, reason: RejectionReason) -> None:
    async with running(tmp_path, 2) as cluster:
        node = cluster.nodes[0]
        with pytest.raises(Rejection) as caught:
            await node._running.links._on_frame(peer(cluster, 1), frame)
        assert caught.value.reason is reason
        assert node.metrics()["frames_rejected_total"] == 1.0


async def test_a_stranger_and_a_tampered_vertex_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        runtime = cluster.nodes[0]._running
        with pytest.raises(Rejection) as caught:
            await runtime.links._on_frame(PeerId("12D3KooWStranger"), b"S")
        assert caught.value.reason is RejectionReason.UNKNOWN_AUTHORITY
        await until(lambda: runtime.vertices.highest_round(0) > 0, "a vertex")
        raw = bytearray(next(runtime.vertices.all_from(0, 0)))
        vertex = decode_vertex(bytes(raw), Parameters())
        at = bytes(raw).index(vertex.signature)
        raw[at] ^= 1
        with pytest.raises(Rejection) as caught:
            await runtime.links._on_frame(peer(cluster, 1), b"V" + bytes(raw))
        assert caught.value.reason is RejectionReason.BAD_SIGNATURE


async def test_what_is_about_another_epoch_breaks_no_rule(tmp_path: Path) -> None:
    """A later epoch tells consensus that the others are further; an older one is dropped."""
    async with running(tmp_path, 2) as cluster:
        node = cluster.nodes[0]
        runtime, sender = node._running, peer(cluster, 1)
        await until(lambda: runtime.vertices.highest_round(0) > 0, "a vertex")
        vertex = decode_vertex(next(runtime.vertices.all_from(0, 0)), Parameters())
        key = Home(cluster.home(1)).read_keys(Role.VALIDATOR).consensus
        assert key is not None
        later = sign_vertex(replace(vertex.header, epoch=Epoch(5)), vertex.payload, vertex.evidence, key)
        runtime.links._inbox = inbox = Inbox()
        await runtime.links._on_frame(sender, b"V" + encode_vertex(later))
        signature = ExecutionSignature(Height(7), bytes(32), AuthorityIndex(1), bytes(64))
        await runtime.links._on_frame(sender, b"S" + links.encode_signature(signature, Epoch(5)))
        posted = [await inbox.take() for _ in range(len(inbox))]
        assert posted.count(EpochAhead()) == 1, "one mark, however many come"
        runtime.links.close(EPOCH)
        assert runtime.links.peers_of(EPOCH) == ()
        assert node.metrics()["frames_of_other_epochs_total"] == 2.0
        assert node.metrics()["frames_rejected_total"] == 0.0


async def test_ancestors_and_ranges_are_answered_from_the_store(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        runtime, network = cluster.nodes[0]._running, cluster.nodes[1]._running.network
        raw = next(runtime.vertices.all_from(0, 0))
        ref = decode_vertex(raw, Parameters()).ref
        unknown = VertexRef(Round(1), AuthorityIndex(0), bytes(32))
        answer = await network.authorities.request(
            peer(cluster, 0), links.ANCESTORS, links.encode_refs(EPOCH, (unknown, ref))
        )
        assert codec.decode(answer, max_bytes=1 << 20) == (raw,)
        with pytest.raises(NotFound):
            await network.authorities.request(peer(cluster, 0), links.ANCESTORS, links.encode_refs(EPOCH, (unknown,)))
        answer = await network.authorities.request(peer(cluster, 0), links.RANGE, codec.encode((0, 1)))
        found = codec.decode(answer, max_bytes=1 << 20)
        assert isinstance(found, tuple)
        rounds = [decode_vertex(bytes(item), Parameters()).round for item in found if isinstance(item, bytes)]
        assert rounds == sorted(rounds)
        assert rounds[0] == 1
        for kind, body in ((links.RANGE, b"\xc1"), (links.RANGE, codec.encode((0, -1))), (links.ANCESTORS, b"\xc0")):
            with pytest.raises(Rejection):
                await network.authorities.request(peer(cluster, 0), kind, body)


async def test_references_are_refused_above_their_bound() -> None:
    refs = tuple(VertexRef(Round(1), AuthorityIndex(0), bytes([n]) * 32) for n in range(5))
    assert links.decode_refs(links.encode_refs(EPOCH, refs, (3, 0)), 5) == (EPOCH, list(refs), [3, 0])
    with pytest.raises(Rejection) as caught:
        links.decode_refs(links.encode_refs(EPOCH, refs), 4)
    assert caught.value.reason is RejectionReason.TOO_LARGE
    with pytest.raises(Rejection) as caught:
        links.decode_refs(links.encode_refs(EPOCH, refs, [1] * 257), 5)
    assert caught.value.reason is RejectionReason.TOO_LARGE


def test_a_signature_frame_says_what_it_said() -> None:
    signature = ExecutionSignature(Height(7), bytes(32), AuthorityIndex(3), bytes(64))
    body = links.encode_signature(signature, Epoch(5))
    assert links.read_signature(body) == (5, signature.height, signature.header_hash, signature.signature)


async def test_a_lost_certificate_is_fetched_and_verified(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        last = None
        for nonce in range(3):
            last = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
        assert last is not None
        assert last.height is not None
        await cluster.level(last.height)
        await until(lambda: cluster.nodes[1]._running.store.complete_height >= last.height, "certificates whole")
        await cluster.stop(1)
        node = cluster.open(1)
        from mpisa.node.database import Database

        database = Database(cluster.home(1) / "ledger", "chain store")
        database.write([(b"c" + (1).to_bytes(8, "big"), None), (b"mcomplete", (0).to_bytes(8, "big"))], sync=True)
        database.close()
        cluster.nodes[1] = node
        await node.start()
        assert node.chain.certificate(1) is None
        await until(lambda: node.chain.certificate(1) is not None, "the certificate came back")
        certificate = node.chain.certificate(1)
        assert certificate is not None
        verify_certificate(node.chain.header(1), certificate, cluster.genesis.validator_set)


async def test_a_false_certificate_is_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        last = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert last.height is not None
        await cluster.level(last.height)
        runtime = cluster.nodes[0]._running
        other = await runtime.network.authorities.request(
            peer(cluster, 1), certificates.CERTIFICATES, codec.encode((1,))
        )
        assert codec.decode(other, max_bytes=1 << 20)

        async def lying(_peer: PeerId, _body: bytes) -> bytes:
            certificate = runtime.store.certificate(1)
            assert certificate is not None
            raw = bytearray(certificate.encode())
            raw[-1] ^= 1
            return codec.encode(((1, bytes(raw)),))

        cluster.nodes[1]._running.network.authorities.set_request_handler(certificates.CERTIFICATES, lying)
        with pytest.raises(Rejection) as caught:
            await runtime.certificates._ask(peer(cluster, 1), [1])
        assert caught.value.reason is RejectionReason.BAD_CERTIFICATE
        with pytest.raises(Rejection):
            await runtime.certificates._answer(peer(cluster, 1), codec.encode(tuple(range(1, 300))))


def test_a_seed_is_never_shown() -> None:
    assert "seed" not in repr(NetworkConfig(bytes(32), bytes(32), "1"))


async def test_a_link_that_comes_up_carries_the_last_vertex_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        runtime = cluster.nodes[0]._running
        others = [peer(cluster, number) for number in (1, 2, 3)]
        await runtime.network.set_link_rules({other: LinkRule(cut=True) for other in others})
        await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "accepted")
        await until(lambda: not runtime.network.authorities.linked(), "cut off")
        sent: list[tuple[PeerId, bytes]] = []

        async def note(to: PeerId, frame: bytes) -> bool:
            sent.append((to, frame))
            return True

        runtime.network.authorities.send = note  # type: ignore[method-assign]
        await runtime.network.set_link_rules({})
        await until(lambda: len(sent) >= 3, "a frame to each")
        proposal = runtime.vertices.proposal(0)
        assert proposal is not None
        assert sorted(to for to, _ in sent[:3]) == sorted(others)
        assert {frame for _, frame in sent[:3]} == {b"V" + proposal[1]}
