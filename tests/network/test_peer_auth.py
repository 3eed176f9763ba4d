"""Peer ID Authentication: the specification's own example, then what a cheat may try."""

import base64

import pytest

from mpisa.network.peer_auth import (
    BEARER_SECONDS,
    CHALLENGE_SECONDS,
    ClientAuthenticator,
    ServerAuthenticator,
    decode_header,
    encode_header,
    from_base64,
    signed_bytes,
)
from mpisa.network.peer_id import HostKey
from mpisa.primitives.errors import Rejection, RejectionReason

SERVER = HostKey(bytes([1]) * 32)
CLIENT = HostKey(bytes([2]) * 32)
NOW = 1_000_000.0


def server() -> ServerAuthenticator:
    return ServerAuthenticator(SERVER, b"s" * 32)


def client(hostname: str = "example.com", peer=SERVER.peer_id) -> ClientAuthenticator:
    return ClientAuthenticator(CLIENT, peer, hostname, "client-challenge")


def test_the_specification_signs_these_bytes():
    data = signed_bytes(
        {
            "hostname": "example.com",
            "client-public-key": bytes.fromhex(
                "080112208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"
            ),
            "challenge-server": "ERERERERERERERERERERERERERERERERERERERERERE=",
        }
    )
    assert data.hex() == (
        "6c69627032702d5065657249443d6368616c6c656e67652d7365727665723d455245524552455245524552455245524552455245524552"
        "455245524552455245524552455245524552453d36636c69656e742d7075626c69632d6b65793d080112208139770ea87d175f56a35466"
        "c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b39414686f73746e616d653d6578616d706c652e636f6d"
    )
    signature = from_base64("UA88qZbLUzmAxrD9KECbDCgSKAUBAvBHrOCF2X0uPLR1uUCF7qGfLPc7dw3Olo-LaFCDpk5sXN7TkLWPVvuXAA==")
    assert SERVER.sign(data) == signature


def test_both_prove_themselves_and_the_token_serves_later():
    one, other = server(), client()
    answer = other.answer(one.challenge(NOW, b"n" * 32))
    proved = one.authenticate(answer, "example.com", NOW)
    assert proved.peer_id == CLIENT.peer_id
    bearer = other.finish(proved.info)
    again = one.authenticate(bearer, "example.com", NOW + BEARER_SECONDS - 1)
    assert (again.peer_id, again.info) == (CLIENT.peer_id, None)


def refuse(function, *args) -> RejectionReason:
    with pytest.raises(Rejection) as caught:
        function(*args)
    return caught.value.reason


def test_challenges_and_tokens_run_out():
    one, other = server(), client()
    answer = other.answer(one.challenge(NOW, b"n" * 32))
    late = NOW + CHALLENGE_SECONDS + 1
    assert refuse(one.authenticate, answer, "example.com", late) is RejectionReason.EXPIRED
    bearer = other.finish(one.authenticate(answer, "example.com", NOW).info)
    late = NOW + BEARER_SECONDS + 1
    assert refuse(one.authenticate, bearer, "example.com", late) is RejectionReason.EXPIRED


def test_an_answer_serves_no_other_name_and_no_other_server():
    one = server()
    answer = client().answer(one.challenge(NOW, b"n" * 32))
    assert refuse(one.authenticate, answer, "example.org", NOW) is RejectionReason.BAD_SIGNATURE
    other = ServerAuthenticator(SERVER, b"t" * 32)
    assert refuse(other.authenticate, answer, "example.com", NOW) is RejectionReason.BAD_SIGNATURE


def test_a_client_answers_no_server_but_the_one_it_called():
    challenge = ServerAuthenticator(CLIENT, b"s" * 32).challenge(NOW, b"n" * 32)
    assert refuse(client().answer, challenge) is RejectionReason.BAD_SIGNATURE


def test_a_server_that_cannot_sign_is_not_believed():
    one = server()
    info = one.authenticate(client().answer(one.challenge(NOW, b"n" * 32)), "example.com", NOW).info
    forged = encode_header(decode_header(info) | {"sig": base64.urlsafe_b64encode(bytes(64)).decode()})
    assert refuse(client().finish, forged) is RejectionReason.BAD_SIGNATURE


@pytest.mark.parametrize("index", [0, 20, 45, 71])
def test_a_changed_token_is_refused(index):
    one, other = server(), client()
    bearer = other.finish(one.authenticate(other.answer(one.challenge(NOW, b"n" * 32)), "example.com", NOW).info)
    token = bytearray(from_base64(decode_header(bearer)["bearer"]))
    token[index] ^= 1
    forged = encode_header({"bearer": base64.urlsafe_b64encode(token).decode()})
    assert refuse(one.authenticate, forged, "example.com", NOW) is RejectionReason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic abc",
        "libp2p-PeerID",
        'libp2p-PeerID opaque="x"',
        'libp2p-PeerID opaque=x, sig="y"',
        'libp2p-PeerID a="1", a="2"',
        'libp2p-PeerID bearer="***"',
        'libp2p-PeerID bearer="A"',
        "libp2p-PeerID " + ", ".join(f'{chr(97 + index)}="1"' for index in range(20)),
        "libp2p-PeerID " + "a" * 5000,
    ],
)
def test_headers_that_make_no_sense_are_refused(header):
    assert refuse(server().authenticate, header, "example.com", NOW) in {
        RejectionReason.MALFORMED,
        RejectionReason.TOO_LARGE,
        RejectionReason.BAD_SIGNATURE,
        RejectionReason.EXPIRED,
    }


def test_the_specifications_space_separated_form_is_read():
    assert decode_header('libp2p-PeerID sig="a" bearer="b"') == {"sig": "a", "bearer": "b"}
