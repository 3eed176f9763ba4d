"""Which snapshots a node that knows the epochs takes for the chain's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpisa.node.joining import Candidate, Chart, rank
from mpisa.node.snapshots import Offer, decode_offers, encode_offers
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Epoch
from tests.node.epoch_chain import CLOSING, FIRST, GENESIS, NEW, OLD, SECOND, STRANGERS, header_at

CHART = Chart({0: FIRST, 1: SECOND})
BASE, TOP = header_at(14), header_at(20)
OFFER = Offer(BASE, NEW.certify(BASE), TOP, NEW.certify(TOP))


def refuse(offer: Offer, reason: RejectionReason, match: str) -> None:
    with pytest.raises(Rejection, match=match) as caught:
        CHART.verify(offer)
    assert caught.value.reason is reason


def test_an_offer_whose_two_headers_the_epoch_s_set_certified_is_taken() -> None:
    CHART.verify(OFFER)
    assert decode_offers(encode_offers((OFFER,))) == (OFFER,)


def test_the_header_that_an_epoch_begins_behind_needs_no_certificate_in_an_offer() -> None:
    """The proof of the epoch vouches for it, genesis is known."""
    CHART.verify(replace(OFFER, base=CLOSING, base_certificate=None))
    early = header_at(4, epoch=0)
    CHART.verify(Offer(GENESIS, None, early, OLD.certify(early)))


def test_any_other_base_does() -> None:
    refuse(replace(OFFER, base_certificate=None), RejectionReason.BAD_CERTIFICATE, "nobody certified header 14")
    refuse(replace(OFFER, base_certificate=NEW.certify(TOP)), RejectionReason.BAD_CERTIFICATE, "signature")
    refuse(replace(OFFER, base_certificate=NEW.certify(BASE, (2, 3))), RejectionReason.NO_QUORUM, "more than 2/3")


def test_a_header_that_another_set_certified_is_refused() -> None:
    refuse(replace(OFFER, certificate=STRANGERS.certify(TOP)), RejectionReason.BAD_CERTIFICATE, "signature")
    refuse(replace(OFFER, certificate=OLD.certify(TOP)), RejectionReason.BAD_CERTIFICATE, "signature")
    refuse(replace(OFFER, certificate=NEW.certify(TOP, (0, 1))), RejectionReason.NO_QUORUM, "more than 2/3")
    other = replace(TOP, validators_hash=FIRST.validator_set.hash)
    refuse(
        Offer(BASE, NEW.certify(BASE), other, OLD.certify(other)),
        RejectionReason.BAD_CERTIFICATE,
        "expected the validator set",
    )


def test_an_epoch_that_nothing_leads_to_is_refused() -> None:
    far = replace(TOP, epoch=Epoch(2))
    refuse(replace(OFFER, header=far, certificate=NEW.certify(far)), RejectionReason.BAD_HEADER, "an epoch up to 1")


def test_a_header_that_closes_its_epoch_is_refused() -> None:
    """Behind it another set goes on: a snapshot's blocks lie within one epoch."""
    closing = replace(TOP, next_validators_hash=FIRST.validator_set.hash)
    refuse(replace(OFFER, header=closing, certificate=NEW.certify(closing)), RejectionReason.BAD_HEADER, "offer: ")


@pytest.mark.parametrize("height", [14, 13])
def test_a_header_that_is_not_above_its_base_is_refused(height: int) -> None:
    low = header_at(height)
    refuse(replace(OFFER, header=low, certificate=NEW.certify(low)), RejectionReason.BAD_HEADER, "above 14")


def test_a_header_from_below_the_beginning_of_its_epoch_is_refused() -> None:
    base, top = header_at(5), header_at(9)
    offer = Offer(base, NEW.certify(base), top, NEW.certify(top))
    refuse(offer, RejectionReason.BAD_HEADER, "epoch 1 begins above 10")


def offer_of(height: int, base: int) -> Offer:
    top, below = header_at(height), header_at(base)
    return Offer(below, NEW.certify(below), replace(top, state_root=bytes([height]) * 32), NEW.certify(top))


def test_one_header_above_two_bases_is_two_candidates_and_the_one_of_most_comes_first() -> None:
    near, far = offer_of(20, 19), offer_of(20, 14)
    assert rank([("liar", near), ("one", far), ("two", far)], 0, None) == [
        Candidate(far, ("one", "two")),
        Candidate(near, ("liar",)),
    ]


def test_higher_snapshots_come_first_but_for_the_one_already_begun() -> None:
    low, middle, high = offer_of(20, 14), offer_of(30, 24), offer_of(40, 34)
    offers = [("one", middle), ("one", low), ("two", high), ("two", low)]
    assert [item.offer for item in rank(offers, 0, None)] == [high, middle, low]
    assert [item.offer for item in rank(offers, 0, low.header.state_root)] == [low, high, middle]
    assert [item.offer for item in rank(offers, 30, None)] == [high], "what lies at or below one's own height is none"


def test_a_peer_that_makes_one_offer_twice_counts_once() -> None:
    twice, once = offer_of(20, 19), offer_of(20, 14)
    ranked = rank([("liar", twice), ("liar", twice), ("one", once), ("two", once)], 0, None)
    assert [item.peers for item in ranked] == [("one", "two"), ("liar",)]
