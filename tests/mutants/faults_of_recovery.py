"""Faults in what survives a crash and how a node comes back: disks, recovery, inquiry, the end of an epoch, ranges."""

from tests.mutants.fault import ENGINE, ENGINE_FILE, EPOCHS, Mutant, mutant

JOURNAL, RECOVERY, INQUIRY = "consensus/journal.py", "consensus/recovery.py", "consensus/inquiry.py"
CLOSING, CATCH_UP = "consensus/closing.py", "consensus/catch_up.py"
JOURNAL_TESTS = ("tests/consensus/test_journal.py", *ENGINE)
INQUIRY_TESTS = ("tests/consensus/succession/test_inquiry.py",)
CLOSING_TESTS = ("tests/consensus/test_closing.py", *EPOCHS)
CATCH_UP_TESTS = ("tests/consensus/test_catch_up.py", "tests/consensus/test_engine_catch_up.py")

PERSISTENCE = (
    Mutant(
        "sends its vertex before it is on the disk",
        ENGINE_FILE,
        (
            ("        self._journal.propose(self._effects, events.ProposalRecord(target, raw, self._epoch))\n", ""),
            (
                "        self._effects.append(events.Broadcast(raw))\n        self._resender.sent",
                "        self._effects.append(events.Broadcast(raw))\n"
                "        self._journal.propose(self._effects, events.ProposalRecord(target, raw, self._epoch))\n"
                "        self._resender.sent",
            ),
        ),
        ENGINE,
    ),
    mutant(
        "hands a commit over before its vertices are synced",
        JOURNAL,
        "self.flush(effects, sync=self._owes_sync and commit.block is not None)",
        "self.flush(effects, sync=False)",
        *ENGINE,
    ),
    mutant(
        "forgets its last proposal across a restart",
        "consensus/recovery.py",
        "        proposer.restore(last)\n",
        "",
        *ENGINE,
        "tests/simulator/test_faults.py",
    ),
    mutant(
        "proposes while it is far behind",
        ENGINE_FILE,
        "return is_chain_here and not self._catch_up.is_behind(self._clock.round)",
        "return is_chain_here",
        "tests/consensus/test_engine_catch_up.py",
        *ENGINE,
    ),
    mutant(
        "makes its first vertex without looking what the others have built",
        ENGINE_FILE,
        "if last.round == 0 and self._catch_up.known_round > self._clock.round:",
        "if False:",
        *ENGINE,
    ),
    mutant(
        "signs before the others have said what they hold of it",
        "consensus/succession.py",
        "                term.inquiry, engine.is_unsure = inquiry, True\n",
        "                pass\n",
        "tests/consensus/succession/test_inquiry.py",
    ),
    mutant(
        "goes on after meeting an own vertex that it doesn't know",
        "consensus/presence.py",
        'self.absent = f"an own vertex of round {vertex.round} came in',
        '_ = f"an own vertex of round {vertex.round} came in',
        *ENGINE,
    ),
    mutant(
        "is silenced by a single liar",
        "consensus/presence.py",
        "if self._committee.is_validity(self._committee.stake_of(self._witnesses)):",
        "if self._witnesses:",
        *ENGINE,
    ),
    mutant(
        "trusts a store that was rolled back",
        "consensus/presence.py",
        "if highest > (last_round or 0):",
        "if False:",
        *ENGINE,
    ),
    mutant(
        "starts from a store that doesn't lead to the committed window",
        "consensus/recovery.py",
        "if linearizer.window_root() != checkpoint.window_root:",
        "if False:",
        "tests/consensus/test_linearizer.py",
        *ENGINE,
    ),
)

JOURNALLING = (
    mutant(
        "syncs for a block's own vertices alone",
        JOURNAL,
        "self._owes_sync = self._owes_sync or any(",
        "self._owes_sync = any(",
        *JOURNAL_TESTS,
    ),
    mutant(
        "takes what came from the store for synced",
        JOURNAL,
        'would still take it."""\n        self._unsynced[vertex.id] = None\n',
        'would still take it."""\n',
        *JOURNAL_TESTS,
    ),
    mutant(
        "stores its proposal without what it builds on",
        JOURNAL,
        "Persist((*self._take(), proposal), sync=True)",
        "Persist((proposal,), sync=True)",
        *JOURNAL_TESTS,
    ),
    mutant(
        "takes any batch for a synced one",
        JOURNAL,
        "        if sync:\n            self._synced()\n",
        "        self._synced()\n",
        *JOURNAL_TESTS,
    ),
    mutant(
        "keeps any number of accepted vertices off the disk",
        JOURNAL,
        "if len(self._waiting) >= self._limit:",
        "if False:",
        *JOURNAL_TESTS,
    ),
)

RECOVERING = (
    mutant(
        "goes on without its last proposal in the graph",
        RECOVERY,
        "    if proposal is not None:\n        kept.append(proposal)\n",
        "",
        *ENGINE,
    ),
    mutant(
        "starts from a store that lost a vertex of the committed window",
        RECOVERY,
        "    if lost is not None:\n",
        "    if False:\n",
        *ENGINE,
    ),
    mutant(
        "takes part though its stores are known to have lost what it signed",
        RECOVERY,
        "if stored.lost is not None:",
        "if False:",
        *ENGINE,
        *EPOCHS,
    ),
    mutant(
        "keeps its last vertex to itself after a restart",
        RECOVERY,
        "        resender.raw = stored.proposal.raw\n",
        "",
        *ENGINE,
    ),
    mutant(
        "signs once a validity threshold has said what it holds of it",
        INQUIRY,
        "return self._committee.is_quorum(",
        "return self._committee.is_validity(",
        *INQUIRY_TESTS,
    ),
    mutant(
        "takes the first part of an answer for the whole",
        INQUIRY,
        "if highest_round >= first + self._parameters.range_rounds - 1:",
        "if False:",
        *INQUIRY_TESTS,
    ),
    mutant(
        "asks again and again without growing patience",
        INQUIRY,
        "        self._tries += 1\n",
        "",
        *INQUIRY_TESTS,
    ),
    mutant(
        "asks those who have answered once more",
        INQUIRY,
        "        del self._asked[sender]\n",
        "",
        *INQUIRY_TESTS,
    ),
)

ENDING = (
    mutant(
        "hands evidence to an engine that hasn't started",
        "consensus/succession.py",
        "if term is not self._current and self._current.is_open:",
        "if term is not self._current:",
        "tests/consensus/succession/test_start_in_two_epochs.py",
    ),
    mutant(
        "keeps the evidence that a store shows of the epoch before to itself",
        "consensus/succession.py",
        "            self._opened(term)\n        self._offer()\n",
        "            self._opened(term)\n",
        "tests/consensus/succession/test_start_in_two_epochs.py",
    ),
    mutant(
        "gives back what the closing commit took",
        CLOSING,
        "        self.executed(header.last_commit)\n        self.header = header\n",
        "        self.header = header\n",
        *CLOSING_TESTS,
    ),
    mutant(
        "forgets payloads that were ordered and not executed",
        CLOSING,
        "if load.index is not None and load.index <= index]",
        "if load.index is not None]",
        *CLOSING_TESTS,
    ),
    mutant(
        "gives back what a commit took",
        CLOSING,
        "            load.index = index\n",
        "            pass\n",
        *CLOSING_TESTS,
    ),
    mutant(
        "loses a payload with the vertex that will never be committed",
        CLOSING,
        "return [] if load is None else [(load.round, load.payload)]",
        "return []",
        *CLOSING_TESTS,
    ),
    mutant(
        "gives payloads back twice",
        CLOSING,
        "        self._loads.clear()\n",
        "",
        *CLOSING_TESTS,
    ),
    mutant(
        "gives payloads back out of order",
        CLOSING,
        "loads = sorted((load.round, load.payload) for load in self._loads.values())",
        "loads = sorted(((load.round, load.payload) for load in self._loads.values()), reverse=True)",
        *CLOSING_TESTS,
    ),
)

RANGES_OF_VERTICES = (
    mutant(
        "believes one author that it is far behind",
        CATCH_UP,
        "if self._committee.is_validity(stake):",
        "if stake:",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "asks for a range before the last one came",
        CATCH_UP,
        "            if now_ms < self._progress_ms + self._parameters.range_timeout_ms:\n                return None\n",
        "",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "asks a source that brings nothing for ever",
        CATCH_UP,
        "            self._attempts += 1\n",
        "",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "takes anybody's answer for the one it waits for",
        CATCH_UP,
        "        if self._asked != sender:\n            return\n",
        "",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "asks itself for a range",
        CATCH_UP,
        "if author != self._own and self.is_far(",
        "if self.is_far(",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "asks the same authority for the rest of an epoch for ever",
        CATCH_UP,
        "        self._rest_turn += 1\n",
        "",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "leaves the authority that brings the rest of an epoch",
        CATCH_UP,
        "            self._rest_turn -= 1\n",
        "",
        *CATCH_UP_TESTS,
    ),
    mutant(
        "asks for the rest of an epoch without a pause",
        CATCH_UP,
        "        self._rest_ms = now_ms + self._parameters.range_timeout_ms\n",
        "",
        *CATCH_UP_TESTS,
    ),
)
