"""Rules broken on purpose: every fault that `make mutants` plants."""

from tests.mutants.fault import Mutant
from tests.mutants.faults_of_nodes import CERTIFICATES, CHANGES, GATES, LEDGER, PACE, PERSISTENCE, SYNC
from tests.mutants.faults_of_order import COMMIT_RULE, OFFENCES, ORDERING

MUTANTS: tuple[Mutant, ...] = (
    *COMMIT_RULE,
    *ORDERING,
    *OFFENCES,
    *PERSISTENCE,
    *PACE,
    *GATES,
    *CERTIFICATES,
    *CHANGES,
    *SYNC,
    *LEDGER,
)
