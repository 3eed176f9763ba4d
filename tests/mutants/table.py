"""Rules broken on purpose: every fault that `make mutants` plants."""

from tests.mutants.fault import Mutant
from tests.mutants.faults_of_bitswap import BITSWAP
from tests.mutants.faults_of_bytes import COLLECTING
from tests.mutants.faults_of_clients import CLIENTS
from tests.mutants.faults_of_formats import FORMATS
from tests.mutants.faults_of_joins import JOINING, OFFERING, REMEMBERING
from tests.mutants.faults_of_nodes import CERTIFICATES, CHANGES, GATES, LEDGER, PACE, SYNC
from tests.mutants.faults_of_order import COMMIT_RULE, OFFENCES, ORDERING
from tests.mutants.faults_of_recovery import ENDING, JOURNALLING, PERSISTENCE, RANGES_OF_VERTICES, RECOVERING
from tests.mutants.faults_of_transfer import FETCHING, KEEPING, SERVING

MUTANTS: tuple[Mutant, ...] = (
    *COMMIT_RULE,
    *ORDERING,
    *OFFENCES,
    *PERSISTENCE,
    *JOURNALLING,
    *RECOVERING,
    *ENDING,
    *RANGES_OF_VERTICES,
    *PACE,
    *GATES,
    *CERTIFICATES,
    *CHANGES,
    *SYNC,
    *JOINING,
    *OFFERING,
    *REMEMBERING,
    *LEDGER,
    *FORMATS,
    *FETCHING,
    *KEEPING,
    *SERVING,
    *BITSWAP,
    *COLLECTING,
    *CLIENTS,
)
