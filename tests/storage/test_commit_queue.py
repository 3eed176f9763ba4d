"""Groups are bounded, errors belong to their callers, and nobody is forgotten."""

import threading

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import DiskFull
from storage import commit_queue
from storage.commit_queue import MAX_GROUP_BYTES, CommitQueue, Request
from storage.records import MAX_GROUP_RECORDS

CID = Cid.of(b"")


def test_a_large_put_becomes_several_groups() -> None:
    groups: list[int] = []
    queue = CommitQueue(lambda group: groups.append(len(group[0].blocks)))
    queue.submit([(CID, b"")] * (MAX_GROUP_RECORDS + 1))
    block = bytes(MAX_GROUP_BYTES // 4)
    queue.submit([(CID, block)] * 9)
    queue.submit([(CID, bytes(MAX_GROUP_BYTES + 1)), (CID, b"")])
    queue.submit([])
    assert groups == [MAX_GROUP_RECORDS, 1, 4, 4, 1, 1, 1]


def test_waiting_requests_are_grouped_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_queue, "MAX_GROUP_BYTES", 10)
    groups: list[list[int]] = []
    started, release = threading.Event(), threading.Event()

    def commit(group: list[Request]) -> None:
        groups.append([request.size for request in group])
        started.set()
        assert release.wait(30)

    queue = CommitQueue(commit)
    threads = [threading.Thread(target=queue.submit, args=([(CID, bytes(4))],)) for _ in range(6)]
    threads[0].start()
    assert started.wait(30)
    for thread in threads[1:]:
        thread.start()
    pause = threading.Event()
    for _ in range(15_000):
        if queue.waiting == 5:
            break
        pause.wait(0.002)
    release.set()
    for thread in threads:
        thread.join(30)
    assert groups == [[4], [4, 4], [4, 4], [4]]


def test_an_error_of_our_own_making_reaches_the_caller() -> None:
    def commit(group: list[Request]) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        CommitQueue(commit).submit([(CID, b"x")])


def test_one_request_may_fail_alone() -> None:
    def commit(group: list[Request]) -> None:
        group[0].error = DiskFull("full")

    queue = CommitQueue(commit)
    with pytest.raises(DiskFull, match="full"):
        queue.submit([(CID, b"x")])
