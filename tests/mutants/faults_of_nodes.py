"""Faults in what a node does around the order: pace, gates, certificates, epochs, sync, ledger."""

from tests.mutants.fault import ADMISSION, ENGINE, ENGINE_FILE, EPOCHS, RANGE_TESTS, RANGES, mutant

JOIN_TESTS = ("tests/simulator/test_joins.py",)

PACE = (
    mutant(
        "never doubles its timeout",
        "consensus/pacemaker.py",
        "doublings = min(self._since_commit // WAVE_ROUNDS, 32)",
        "doublings = 0",
        "tests/consensus/test_pacemaker.py",
    ),
    mutant(
        "waits for suspected leaders",
        "consensus/pacemaker.py",
        "leader != self._own and leader not in self.suspects and leader not in equivocators",
        "leader != self._own and leader not in equivocators",
        "tests/consensus/test_pacemaker.py",
    ),
    mutant(
        "forgives a leader that is skipped again and again at once",
        "consensus/pacemaker.py",
        "self._owed[authority] = 1 << (strikes - 1)",
        "self._owed[authority] = 1",
        "tests/consensus/test_pacemaker.py",
    ),
    mutant(
        "opens rounds on equivocators' vertices",
        "consensus/dag/threshold_clock.py",
        "        if not equivocators:\n            return stake\n",
        "        return stake\n",
        "tests/consensus/test_threshold_clock.py",
    ),
    mutant(
        "stays in a round that only an equivocator opened",
        ENGINE_FILE,
        "        self._clock.reconsider(self._admission.equivocators)\n",
        "",
        *ENGINE,
        "tests/simulator/test_strategies.py",
    ),
    mutant(
        "chooses known equivocators as parents",
        "consensus/proposer.py",
        "            if author in equivocators:\n                continue\n",
        "",
        *ENGINE,
    ),
)

GATES = (
    mutant(
        "takes in every twin that anybody sends",
        ADMISSION,
        "return self.pending.is_missing(vertex.id)",
        "return True",
        "tests/consensus/test_admission.py",
    ),
    mutant(
        "takes in any number of twins that others need",
        ADMISSION,
        "get((introducer, ref.author), 0) >= limit for ref in twins",
        "get((introducer, ref.author), 0) >= 1 << 30 for ref in twins",
        "tests/consensus/test_admission.py",
        "tests/simulator/test_strategies.py",
    ),
    mutant(
        "bounds twins whoever introduces them",
        ADMISSION,
        "if any(self._charges.get(ref.round, {}).get((introducer, ref.author), 0) >= limit for ref in twins):",
        "if any(sum(self._charges.get(ref.round, {}).values()) >= limit for ref in twins):",
        "tests/consensus/test_admission.py",
        "tests/consensus/test_engine_fork_bomb.py",
    ),
    mutant(
        "takes in vertices of the future at once",
        ADMISSION,
        "if vertex.timestamp_ms > now_ms and not self._is_vouched(vertex):",
        "if False:",
        "tests/consensus/test_admission.py",
    ),
    mutant(
        "believes what a reference says of a vertex",
        ADMISSION,
        "elif node.round != ref.round or node.author != ref.author:",
        "elif False:",
        "tests/consensus/test_admission.py",
    ),
    mutant(
        "gives one author the whole waiting room",
        "consensus/dag/pending.py",
        "account.vertices < max(1, parameters.max_pending // count)",
        "account.vertices < parameters.max_pending",
        "tests/consensus/test_pending.py",
    ),
    mutant(
        "asks a silent peer first, again and again",
        "consensus/dag/pending.py",
        "self._silent.add(entry.asked[-1])",
        "pass",
        "tests/consensus/test_pending.py",
    ),
    mutant(
        "takes an author twice among the parents",
        "consensus/dag/validation.py",
        "if ref.author in authors:",
        "if False:",
        "tests/consensus/test_vertex.py",
    ),
    mutant(
        "takes f + 1 parents for a quorum",
        "consensus/dag/validation.py",
        "    if not committee.is_quorum(stake):\n        raise _bad_parents(",
        "    if not committee.is_validity(stake):\n        raise _bad_parents(",
        "tests/consensus/test_vertex.py",
    ),
)

CERTIFICATES = (
    mutant(
        "certifies at a validity threshold",
        "consensus/order/certifier.py",
        "not self._committee.is_quorum(tally.stake)",
        "not self._committee.is_validity(tally.stake)",
        "tests/consensus/test_certifier.py",
    ),
    mutant(
        "counts signatures over another header",
        "consensus/order/certifier.py",
        "if signature.header_hash != tally.header_hash:",
        "if False:",
        "tests/consensus/test_certifier.py",
    ),
    mutant(
        "counts signatures unchecked",
        "consensus/order/certifier.py",
        "if is_signed_by(self._committee[signature.authority].address, digest, signature.signature):",
        "if digest:",
        "tests/consensus/test_certifier.py",
    ),
    mutant(
        "accuses by signatures that it hasn't checked",
        "consensus/order/witness.py",
        "claim.is_good = is_signed_by(self._committee[author].address, digest, claim.signed.signature)",
        "claim.is_good = bool(digest)",
        "tests/consensus/test_witness.py",
    ),
)

CHANGES = (
    mutant(
        "goes on committing behind the closing header",
        ENGINE_FILE,
        "        if self._closing.header is not None:\n            return\n        self._journal",
        "        self._journal",
        *EPOCHS,
    ),
    mutant(
        "loses what the closing header voids",
        ENGINE_FILE,
        "self._lapse(self._closing.close(header))",
        "self._closing.close(header)",
        *EPOCHS,
    ),
    mutant(
        "serves the old epoch no more once the next is open",
        "consensus/succession.py",
        "self._served, self._current = before, self._term(start, event.stored)",
        "self._served, self._current = None, self._term(start, event.stored)",
        *EPOCHS,
    ),
    mutant(
        "opens an epoch without asking what was signed in it",
        "consensus/succession.py",
        "self._served, self._current = before, self._term(start, event.stored)",
        "self._served, self._current = before, self._term(start, events.StoredEpoch())",
        *EPOCHS,
    ),
    mutant(
        "takes part with keys that were changed within the epoch",
        "consensus/succession.py",
        "if author != seat.index:",
        "if False:",
        *EPOCHS,
    ),
)

SYNC = (
    mutant(
        "takes a range that nobody certified",
        RANGES,
        "if blocks and blocks[-1].certificate is None:",
        "if False:",
        *RANGE_TESTS,
    ),
    mutant(
        "takes other vertices than those of the outline", RANGES, "if vertex.ref != ref:", "if False:", *RANGE_TESTS
    ),
    mutant(
        "takes a range with another committed window",
        RANGES,
        "if root != position.header.window_root:",
        "if False:",
        *RANGE_TESTS,
    ),
    mutant(
        "takes headers that aren't linked", RANGES, '        "previous": header_hash(previous),\n', "", *RANGE_TESTS
    ),
    mutant(
        "offers a snapshot without the blocks that lead to its window",
        "mpisa/node/snapshots.py",
        "gc_round = self._leader_round(height) - self._parameters.gc_depth",
        "gc_round = self._leader_round(height)",
        *JOIN_TESTS,
    ),
    mutant(
        "forgets blocks that a snapshot on offer needs",
        "mpisa/node/snapshots.py",
        "return min(self._bases.values(), default=self._store.height)",
        "return self._store.height",
        *JOIN_TESTS,
    ),
    mutant(
        "drops a peer for an epoch that began since",
        "mpisa/node/joining.py",
        "return [offer for offer in offers if offer.header.epoch in self.records]",
        "return list(offers)",
        *JOIN_TESTS,
    ),
    mutant(
        "believes that a liar is far ahead",
        "mpisa/node/standing.py",
        "if committee.is_validity(",
        "if bool(",
        "tests/node/test_standing.py",
        *JOIN_TESTS,
    ),
    mutant(
        "takes a part of the state that its root doesn't bind",
        "mpisa/primitives/merkle_range.py",
        "    if found != root:\n",
        "    if False:\n",
        *JOIN_TESTS,
    ),
    mutant(
        "takes a set that the dismissed one hasn't certified",
        "mpisa/node/epoch_proof.py",
        "    verify_certificate(header, proof.certificate, known.validator_set)\n",
        "",
        "tests/node/test_epoch_proof.py",
    ),
    mutant(
        "signs in an epoch that it joined by a snapshot",
        "mpisa/node/own_past.py",
        "if epoch not in self._known and self.is_blank():",
        "if False:",
        *JOIN_TESTS,
    ),
    mutant(
        "takes an outline with another digest",
        RANGES,
        "if checkpoint.digest != header.commit_digest:",
        "if False:",
        *RANGE_TESTS,
    ),
)

LEDGER = (
    mutant(
        "slashes twice for one epoch",
        "mpisa/ledger/offences.py",
        "        if state.value(key) is not None:\n            continue\n",
        "",
        "tests/ledger/test_offences.py",
    ),
    mutant(
        "closes an epoch before its time",
        "mpisa/ledger/closing.py",
        "epoch.pending and epoch.electable > 0 and age_ms >= rules.parameters.staking.min_epoch_ms",
        "epoch.pending and epoch.electable > 0",
        "tests/ledger/test_closing.py",
    ),
    mutant(
        "executes a transaction whose nonce was used",
        "mpisa/ledger/accounts.py",
        "    if transaction.nonce < expected:\n        raise Rejection(",
        "    if False:\n        raise Rejection(",
        "tests/ledger/test_rejections.py",
        "tests/ledger/test_transition.py",
    ),
)
