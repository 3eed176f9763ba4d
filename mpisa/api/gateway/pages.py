"""Pages made here: a directory's names, and a document with its links. Plain strings, everything of others escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mpisa.api.gateway.headers import tag_of
from mpisa.api.gateway.paths import link
from mpisa.primitives.cid import DAG_CBOR
from mpisa.primitives.dag_json import encode_dag_json
from mpisa.primitives.ipld import decode_dag_cbor
from mpisa.primitives.links import links_of

if TYPE_CHECKING:
    from mpisa.api.gateway.paths import ContentPath
    from mpisa.node.content import NamePage
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.unixfs_tree import Entry

MAX_SHOWN_LINKS: Final = 1_000
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "td{padding:.15rem .5rem;border-top:1px solid #ddd;overflow-wrap:anywhere}"
    "td.size{text-align:right;white-space:nowrap}.ipfs-hash{font-family:monospace;font-size:.85em}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere}"
)
_FRAME: Final = (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head>'
    "<body><h1>{heading}</h1>{body}</body></html>\n"
)
_ROW: Final = (
    '<tr><td><a href="{href}">{name}</a></td>'
    '<td><a class="ipfs-hash" translate="no" href="{block}">{cid}</a></td><td class="size">{size}</td></tr>'
)
PAGE_VERSION: Final = tag_of(_STYLE, _FRAME, _ROW)
"""Part of these pages' entity tags: another way to make them is another representation."""


def directory_page(path: ContentPath, page: NamePage) -> bytes:
    """A listing of names in the order of the directory's blocks. Sizes are what the directory says, blocks included."""
    here = link(path.space, path.root, path.parts)
    rows = []
    if path.parts:
        rows.append(f'<tr><td colspan="3"><a href="{escape(here)}/..">..</a></td></tr>')
    rows += [_row(here, entry) for entry in page.entries]
    body = f"<table>{''.join(rows)}</table>"
    if page.next is not None:
        body += f'<p><a href="{escape(here)}/?after={quote(page.next, safe="")}">More</a></p>'
    return _frame(path, f"Index of {_crumbs(path)}", body)


def document_page(path: ContentPath, cid: Cid, block: bytes) -> bytes:
    """A DAG-CBOR or DAG-JSON document as JSON text, and what it links to. Raises Rejection for a malformed one."""
    text = (encode_dag_json(decode_dag_cbor(block)) if cid.codec == DAG_CBOR else block).decode("utf-8", "replace")
    linked = links_of(cid, block)
    shown = "".join(f"<li>{_hash_link(str(item))}</li>" for item in linked[:MAX_SHOWN_LINKS])
    more = f"<p>and {len(linked) - MAX_SHOWN_LINKS} more</p>" if len(linked) > MAX_SHOWN_LINKS else ""
    raw = f'<p><a href="{escape(link("ipfs", str(cid), ()))}?format=raw">The block itself</a></p>'
    return _frame(path, _crumbs(path), f"<pre>{escape(text)}</pre><ul>{shown}</ul>{more}{raw}")


def _row(here: str, entry: Entry) -> str:
    # The name is quoted twice, as other gateways link it.
    block = f"{link('ipfs', str(entry.cid), ())}?filename={quote(quote(entry.name, safe=''), safe='')}"
    return _ROW.format(
        href=escape(f"{here}/{quote(entry.name, safe='')}"),
        name=escape(entry.name),
        block=escape(block),
        cid=escape(str(entry.cid)),
        size=entry.dag_size,
    )


def _crumbs(path: ContentPath) -> str:
    parts = [f'<a href="{escape(link(path.space, path.root, ()))}">{escape(path.root)}</a>']
    for end, part in enumerate(path.parts, 1):
        parts.append(f'<a href="{escape(link(path.space, path.root, path.parts[:end]))}">{escape(part)}</a>')
    return f"/{path.space}/{'/'.join(parts)}"


def _hash_link(text: str) -> str:
    return f'<a class="ipfs-hash" translate="no" href="{escape(link("ipfs", text, ()))}">{escape(text)}</a>'


def _frame(path: ContentPath, heading: str, body: str) -> bytes:
    title = escape("/".join((f"/{path.space}", path.root, *path.parts)))
    return _FRAME.format(title=title, style=_STYLE, heading=heading, body=body).encode("utf-8", "replace")
