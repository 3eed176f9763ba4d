from mpisa.network.peer_id import HostKey
from mpisa.network.peer_store import PeerStore
from mpisa.network.ports import PeerAddress


def address(number: int) -> PeerAddress:
    return PeerAddress(
        HostKey(bytes([number]) * 32).peer_id, (f"/ip4/10.0.0.{number}/tcp/1",), f"https://10.0.0.{number}:2"
    )


def test_what_is_saved_is_there_at_the_next_start(tmp_path):
    path = tmp_path / "peers.json"
    store = PeerStore(path, 10)
    for number in (1, 2, 3, 1):
        store.remember(address(number))
    store.forget(address(2).peer_id)
    store.save()
    again = PeerStore(path, 10)
    assert again.addresses() == [address(1), address(3)]
    assert (again.get(address(3).peer_id), again.get(address(2).peer_id)) == (address(3), None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["peers.json"]


def test_the_longest_unseen_are_forgotten_at_the_bound(tmp_path):
    store = PeerStore(tmp_path / "peers.json", 2)
    for number in (1, 2, 1, 3):
        store.remember(address(number))
    assert store.addresses() == [address(3), address(1)]
    assert len(store) == 2


def test_a_damaged_file_is_an_empty_store_that_says_so(tmp_path):
    path = tmp_path / "peers.json"
    for text in ("", "{", "[]", '{"format": 2, "peers": []}', '{"format": 1, "peers": [{"peer_id": "x"}]}', "[" * 9999):
        path.write_text(text)
        store = PeerStore(path, 2)
        assert len(store) == 0
        assert store.damage is not None
        assert store.damage.startswith(f"{path}: ")


def test_without_a_path_nothing_is_written():
    store = PeerStore(None, 2)
    store.remember(address(1))
    store.save()
    assert store.addresses() == [address(1)]
