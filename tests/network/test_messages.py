import pytest

from mpisa.network import messages
from mpisa.network.messages import Hello
from mpisa.network.ports import PeerId
from mpisa.primitives.codec import encode
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, Unreachable

HELLO = Hello(b"c" * 32, "mpisa/1", ("/ip4/127.0.0.1/tcp/4001",), "/ip4/127.0.0.1/tcp/4002/tls/http")


def test_hello_goes_both_ways():
    assert messages.decode_hello(messages.encode_hello(HELLO)) == HELLO
    address = HELLO.address_of(PeerId("p"))
    assert (address.multiaddrs, address.peer_url) == (HELLO.addresses, "https://127.0.0.1:4002")


@pytest.mark.parametrize(
    "hello",
    [
        b"",
        b"\xc1",
        bytes(5000),
        encode({}),
        encode({"addresses": (), "chain": b"short", "peer_port": None, "version": ""}),
        encode({"addresses": ("/x",) * 9, "chain": b"c" * 32, "peer_port": None, "version": ""}),
        encode({"addresses": (), "chain": b"c" * 32, "peer_port": "/ip4/1.2.3.4/tcp/99999/tls/http", "version": ""}),
        encode({"addresses": (), "chain": b"c" * 32, "peer_port": "https://evil", "version": ""}),
        encode({"addresses": (), "chain": b"c" * 32, "peer_port": None, "version": "v" * 65}),
    ],
)
def test_what_is_no_hello_is_refused(hello):
    with pytest.raises(Rejection):
        messages.decode_hello(hello)


@pytest.mark.parametrize(
    ("host", "text", "url"),
    [
        ("10.0.0.1", "/ip4/10.0.0.1/tcp/1/tls/http", "https://10.0.0.1:1"),
        ("::1", "/ip6/::1/tcp/1/tls/http", "https://[::1]:1"),
        ("node.example", "/dns4/node.example/tcp/1/tls/http", "https://node.example:1"),
    ],
)
def test_peer_ports_as_multiaddrs_and_urls(host, text, url):
    assert messages.peer_port_of(host, 1) == text
    assert messages.url_of(text) == url


def test_a_peer_address_is_split():
    assert messages.split_peer_address("/ip4/1.2.3.4/tcp/5/p2p/12D3") == ("12D3", "/ip4/1.2.3.4/tcp/5")
    for text in ("", "/ip4/1.2.3.4/tcp/5", "/p2p/12D3", "/ip4/1.2.3.4/tcp/5/p2p/12D3/x"):
        with pytest.raises(Rejection, match="expected it to end in /p2p/ID"):
            messages.split_peer_address(text)


def test_requests_and_answers_go_both_ways():
    assert messages.decode_request(messages.encode_request("vertices", b"body"), 4) == ("vertices", b"body")
    with pytest.raises(Rejection, match="body"):
        messages.decode_request(messages.encode_request("vertices", b"12345"), 4)
    assert messages.decode_answer(messages.encode_answer(b"yes"), 10) == b"yes"
    for error in (NotFound("none"), Rejection(RejectionReason.EXPIRED, "old"), Unreachable("closed")):
        with pytest.raises(type(error), match=str(error)):
            messages.decode_answer(messages.encode_answer(error), 10)
    with pytest.raises(Unreachable, match="what"):
        messages.decode_answer(encode((2, b"no-such-reason", "what")), 100)
