"""Documents: blocks of DAG-JSON, DAG-CBOR and plain JSON and CBOR, as they are; nothing is converted.

A browser that asks for HTML gets a page about a DAG-JSON or DAG-CBOR document, with its links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.api.gateway.headers import OWN_PAGE, SANDBOX
from mpisa.api.gateway.negotiation import HTML, TYPES, Form
from mpisa.api.gateway.pages import PAGE_VERSION, document_page
from mpisa.api.gateway.sending import not_modified, send_bytes
from mpisa.api.problems import NotAcceptable
from mpisa.primitives.cid import DAG_CBOR, DAG_JSON

if TYPE_CHECKING:
    from aiohttp import web

    from mpisa.api.gateway.asking import Ask

PLAIN_CBOR: Final = 0x51
PLAIN_JSON: Final = 0x0200


@dataclass(frozen=True, slots=True)
class _Codec:
    """Forms in which a codec's blocks are answered, its own one first."""

    forms: tuple[Form, ...]
    suffix: str
    inline: bool
    linking: bool = False


_CODECS: Final = {
    DAG_JSON: _Codec((Form.DAG_JSON, Form.JSON), "json", inline=True, linking=True),
    DAG_CBOR: _Codec((Form.DAG_CBOR, Form.CBOR), "cbor", inline=False, linking=True),
    PLAIN_JSON: _Codec((Form.JSON,), "json", inline=True),
    PLAIN_CBOR: _Codec((Form.CBOR,), "cbor", inline=False),
}


async def document(ask: Ask) -> web.StreamResponse:
    """The block in the form asked for. Raises NotAcceptable where that is another codec's."""
    codec = _CODECS.get(ask.cid.codec)
    if codec is None:
        raise NotAcceptable(
            f"{ask.cid} is of codec {ask.cid.codec:#x}, which is no content this gateway knows",
            hint="?format=raw or ?format=car sends the block",
        )
    if ask.wanted.form is Form.CONTENT and ask.wanted.page and codec.linking:
        return await _page(ask)
    form = codec.forms[0] if ask.wanted.form is Form.CONTENT else ask.wanted.form
    if form not in codec.forms:
        raise NotAcceptable(
            f"{ask.cid} is {codec.forms[0]}, not {form}", hint="documents aren't converted; leave the format out"
        )
    tag = f'"{ask.cid}.{form}"'
    headers = ask.headers(tag, TYPES[form], SANDBOX) | ask.disposition(codec.suffix, inline=codec.inline)
    block = await ask.node.content.block(ask.cid, local_only=ask.local_only)
    return send_bytes(ask.request, block, headers)


async def _page(ask: Ask) -> web.StreamResponse:
    tag = f'"DagIndex-{PAGE_VERSION}_CID-{ask.cid}"'
    headers = ask.headers(tag, f"{HTML}; charset=utf-8", OWN_PAGE, generated=True)
    same = not_modified(ask.request, headers)
    if same is not None:
        return same
    block = await ask.node.content.block(ask.cid, local_only=ask.local_only)
    return send_bytes(ask.request, document_page(ask.path, ask.cid, block), headers)
