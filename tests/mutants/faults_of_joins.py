"""Planted faults of coming forward: what is offered, what is believed, what was signed before."""

from tests.mutants.fault import mutant

JOINING_FILE = "mpisa/node/joining.py"
EPOCH_PROOF = "mpisa/node/epoch_proof.py"
MERKLE_RANGE = "mpisa/primitives/merkle_range.py"
OWN_PAST = "mpisa/node/own_past.py"
PATIENCE = "mpisa/node/patience.py"
RANGING = "mpisa/node/ranging.py"
SERVING = "mpisa/node/serving.py"
SNAPSHOTS = "mpisa/node/snapshots.py"
STANDING = "mpisa/node/standing.py"
CHART_TESTS = ("tests/node/test_joining.py",)
WHOLE_JOINS = ("tests/node/test_snapshots.py",)

JOINING = (
    mutant(
        "takes a snapshot that nobody certified",
        JOINING_FILE,
        "        verify_certificate(header, offer.certificate, record.validator_set)\n",
        "",
        *CHART_TESTS,
    ),
    mutant(
        "takes a snapshot above a header that nobody certified",
        JOINING_FILE,
        "            verify_certificate(offer.base, offer.base_certificate, record.validator_set)\n",
        "            pass\n",
        *CHART_TESTS,
    ),
    mutant(
        "takes any header without a certificate for the one that an epoch begins behind",
        JOINING_FILE,
        "        elif offer.base.height != record.base:",
        "        elif False:",
        *CHART_TESTS,
    ),
    mutant(
        "takes a snapshot of the header that closes an epoch",
        JOINING_FILE,
        "if record is None or header.closes_epoch or not",
        "if record is None or not",
        *CHART_TESTS,
    ),
    mutant(
        "takes a snapshot below its own base",
        JOINING_FILE,
        " or not offer.base.height < header.height:",
        ":",
        *CHART_TESTS,
    ),
    mutant(
        "takes a snapshot of an epoch from below where that began",
        JOINING_FILE,
        "        if header.height <= record.base:",
        "        if False:",
        *CHART_TESTS,
    ),
    mutant(
        "takes another header of the right height for the one that an epoch begins behind",
        JOINING_FILE,
        "            if offer.base != known:",
        "            if False:",
        *WHOLE_JOINS,
    ),
    mutant(
        "begins behind a snapshot with whatever window its blocks make",
        JOINING_FILE,
        "            require_window(position)\n",
        "            pass\n",
        *WHOLE_JOINS,
    ),
    mutant(
        "goes on from an epoch whose end it can't show",
        JOINING_FILE,
        "        if not store.raw_certificate(record.base) or store.epoch_entries(epoch) is None:",
        "        if False:",
        "tests/simulator/test_joins.py",
    ),
    mutant(
        "believes another end of an epoch than the one that it has seen",
        JOINING_FILE,
        "    if own != proof.header:",
        "    if False:",
        "tests/node/test_epoch_snapshots.py",
    ),
    mutant(
        "lets the base that one peer names count for all",
        JOINING_FILE,
        "found.setdefault((offer.header.hash, offer.base.hash), ",
        'found.setdefault((offer.header.hash, b""), ',
        *CHART_TESTS,
    ),
    mutant(
        "takes a snapshot's blocks from anybody and blames who offered it",
        JOINING_FILE,
        "offer.header.height, among=(peer,))",
        "offer.header.height)",
        *WHOLE_JOINS,
    ),
    mutant(
        "takes a set for the next one that the last one didn't certify",
        EPOCH_PROOF,
        "    verify_certificate(header, proof.certificate, known.validator_set)\n",
        "",
        "tests/node/test_epoch_proof.py",
    ),
    mutant(
        "takes keys for a validator's that the state doesn't hold",
        EPOCH_PROOF,
        "        verify_membership(header.state_root, entry.key, entry.value, MapProof.decode(entry.proof))\n",
        "        MapProof.decode(entry.proof)\n",
        "tests/node/test_epoch_proof.py",
    ),
    mutant(
        "takes another set than the closing header names",
        EPOCH_PROOF,
        "    if proven != named:",
        "    if False:",
        "tests/node/test_epoch_proof.py",
    ),
    mutant(
        "takes a chunk of a state that leads to another root",
        MERKLE_RANGE,
        "    if found != root:",
        "    if False:",
        "tests/primitives/test_merkle_range.py",
    ),
)

OFFERING = (
    mutant(
        "offers a snapshot with too few blocks for its window",
        SNAPSHOTS,
        "if self._leader_round(base) <= gc_round and",
        "if",
        "tests/simulator/test_joins.py",
    ),
    mutant(
        "hands out blocks before anybody certified them",
        SERVING,
        "            while blocks and not blocks[-1].certificate:\n                blocks.pop()\n",
        "",
        "tests/simulator/test_joins.py",
        "tests/node/test_syncing.py",
    ),
    mutant(
        "applies blocks that nobody certified",
        RANGING,
        "        if opened.certificate is None:",
        "        if False:",
        "tests/simulator/test_joins.py",
        "tests/node/test_syncing.py",
    ),
    mutant(
        "hands on vertices that nobody signed",
        RANGING,
        "        for block in done:\n            check_signatures(block.vertices, stand.committee)\n",
        "",
        "tests/node/test_syncing.py",
    ),
    mutant(
        "asks nobody else while a peer withholds what is due",
        PATIENCE,
        "        if now < self.wake or not others:",
        "        if self._asked or not others:",
        "tests/node/test_patience.py",
        "tests/node/test_syncing.py",
    ),
    mutant(
        "asks who withheld something again and again",
        PATIENCE,
        "            is_slow = now < record.until",
        "            is_slow = False",
        "tests/node/test_patience.py",
        "tests/node/test_syncing.py",
    ),
)

REMEMBERING = (
    mutant(
        "makes vertices in an epoch that it joined by a snapshot",
        OWN_PAST,
        "        if epoch not in self._known and self.is_blank():",
        "        if False:",
        "tests/simulator/test_joins.py",
    ),
    mutant(
        "doesn't know its own vertices in others' blocks",
        OWN_PAST,
        "if vertex.author == seat.index and vertex.round > last:",
        "if False:",
        "tests/simulator/test_joins.py",
    ),
    mutant(
        "makes vertices before it has heard what it made before",
        OWN_PAST,
        "        return seat is not None and self._vertices.proposal(epoch) is None",
        "        return False",
        "tests/simulator/test_joins.py",
    ),
    mutant(
        "believes one liar how far the others are",
        STANDING,
        "if committee.is_validity(committee.stake_of([who for who, claimed in claims.items() if claimed >= height])):",
        "if any(claimed >= height for claimed in claims.values()):",
        "tests/node/test_standing.py",
    ),
)
