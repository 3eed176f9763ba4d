"""The links of a block, whatever its codec: what a walk, a pin, a CAR stream and garbage collection follow.

DAG-PB, DAG-CBOR and DAG-JSON have links; raw blocks and codecs that aren't known here have none.
"""

from typing import Final

from mpisa.primitives.cid import DAG_CBOR, DAG_JSON, DAG_PB, Cid
from mpisa.primitives.dag_json import dag_json_links
from mpisa.primitives.dag_pb import decode_node
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import dag_cbor_links

MAX_LINKS: Final = 65_536
LINKING_CODECS: Final = frozenset((DAG_PB, DAG_CBOR, DAG_JSON))
"""Only blocks of these codecs can have links: others need not be read to know that they have none."""


def links_of(cid: Cid, block: bytes) -> list[Cid]:
    """The CIDs that a block links to, in its order, each as often as it is there; also ones of hashes not checked here.

    Empty for raw blocks and codecs that aren't known. Raises Rejection (MALFORMED, NOT_CANONICAL, DUPLICATE, BAD_CID,
    TOO_LARGE, TOO_DEEP) that names the block.
    """
    if cid.codec not in LINKING_CODECS:
        return []
    try:
        if cid.codec == DAG_PB:
            found = [Cid.from_bytes(link.hash) for link in decode_node(block).links]
        elif cid.codec == DAG_CBOR:
            found = dag_cbor_links(block)
        else:
            found = dag_json_links(block)
    except Rejection as error:
        raise Rejection(error.reason, f"block {cid}: {error.detail}") from None
    if len(found) > MAX_LINKS:
        raise Rejection(RejectionReason.TOO_LARGE, f"block {cid}: {len(found)} links, at most {MAX_LINKS}")
    return found
