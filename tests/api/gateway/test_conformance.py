"""The gateway against the public conformance suite's cases: what docs/gateway.md says of each group is what holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from mpisa.api.server import ApiServer
from mpisa.primitives.errors import Rejection
from mpisa.primitives.ipns import parse_name
from storage.car import import_car
from tests.api.fake_node import FakeLedger, FakeNode, make_genesis
from tests.api.gateway import documents, names, trustless, unixfs
from tests.api.gateway.table import HOME, Case


@dataclass(frozen=True)
class Group:
    """A group of the suite's cases: its rows here, or why there are none."""

    about: str
    cases: tuple[Case, ...] = ()
    out: str = ""


GROUPS = {
    "trustless_gateway_raw": Group("single blocks", trustless.RAW_CASES),
    "trustless_gateway_car": Group("CARs: paths, scopes, ranges, order and repeats", trustless.CAR_CASES),
    "trustless_gateway_ipns": Group("signed records of names", names.RECORD_CASES),
    "path_gateway_raw": Group("single blocks below a path", trustless.PATH_RAW_CASES),
    "path_gateway_unixfs": Group(
        "files, listings, symlinks, caches, ranges", (*unixfs.UNIXFS_CASES, *names.CACHE_CASES)
    ),
    "path_gateway_dag": Group("JSON and CBOR, plain and with links", (*documents.DAG_CASES, *names.DOCUMENT_CASES)),
    "path_gateway_tar": Group("trees as tar archives", unixfs.TAR_CASES),
    "path_gateway_ipns": Group("what lies behind names", names.NAME_CASES),
    "path_gateway_cors": Group(
        "answers for pages of other origins",
        out="The API and the gateway share an origin, so pages from elsewhere are refused on purpose.",
    ),
    "subdomain_gateway_ipfs": Group(
        "an origin for each CID", out="It needs a domain with wildcard names, which a node on loopback doesn't have."
    ),
    "subdomain_gateway_ipns": Group("an origin for each name", out="As above."),
    "subdomain_gateway_proxy": Group("the same behind an HTTP proxy", out="As above."),
    "dnslink_gateway": Group("names in DNS", out="It needs public DNS, which this node doesn't ask."),
    "dnslink_gateway_ipns": Group("names in DNS that point to IPNS", out="As above."),
    "redirects_file": Group(
        "`_redirects` in a site's root", out="The specification allows it only where sites have origins of their own."
    ),
}

TABLE_HEAD = "| group | about | cases | |\n|---|---|---|---|\n"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    node = FakeNode(tmp_path_factory.mktemp("gateway") / "node1", FakeLedger(*make_genesis()))
    for fixture in sorted(HOME.rglob("*.car")):
        if fixture.parent.name not in ("subdomain_gateway", "redirects_file"):
            with fixture.open("rb") as stream:
                import_car(node.blobs.store, stream)
    for file in HOME.rglob("*.ipns-record"):
        name = parse_name(file.name.removesuffix(".ipns-record").partition("_")[0])
        if str(file.name).partition("_")[0] in names.REFUSED.values():
            with pytest.raises(Rejection):
                await node.names.put(name, file.read_bytes())
        else:
            await node.names.put(name, file.read_bytes())
    server = ApiServer(node, token="t" * 40)
    await server.start()
    async with aiohttp.ClientSession(server.url, auto_decompress=False) as session:
        yield session
    await server.stop()


@pytest.mark.parametrize(
    ("group", "case"), [(name, case) for name, group in GROUPS.items() for case in group.cases], ids=str
)
async def test_a_case(gateway: aiohttp.ClientSession, group: str, case: Case) -> None:
    target = URL(case.path + (f"?{case.query}" if case.query else ""), encoded=True)
    async with gateway.request(case.method, target, headers=case.ask, allow_redirects=False) as answer:
        assert case.faults(answer.status, answer.headers, await answer.read()) == []


async def test_the_page_says_the_same() -> None:
    """docs/gateway.md's table is made from GROUPS."""
    page = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text()
    assert page.endswith(TABLE_HEAD + "".join(f"{line}\n" for line in table_lines())), "\n".join(table_lines())


def table_lines() -> list[str]:
    return [
        f"| {name} | {group.about} | {len(group.cases) or ''} | {group.out or 'in'} |" for name, group in GROUPS.items()
    ]


async def test_every_group_is_in_or_says_why_not() -> None:
    assert all(bool(group.cases) != bool(group.out) for group in GROUPS.values())
    names_of = {(name, case.name) for name, group in GROUPS.items() for case in group.cases}
    assert len(names_of) == sum(len(group.cases) for group in GROUPS.values())
