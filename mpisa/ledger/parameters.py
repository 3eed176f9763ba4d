"""The chain's parameters, as the state holds them: genesis writes them, so the state is never empty."""

from __future__ import annotations

from mpisa.ledger.state import StateView, damaged
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.genesis import ChainParameters
from mpisa.primitives.state_keys import parameters_key


def read_parameters(view: StateView) -> ChainParameters:
    """The parameters in force. Raises IntegrityError when the state has none or damaged ones."""
    data = view.get(parameters_key())
    if data is None:
        raise IntegrityError(
            "the state is damaged: it holds no chain parameters", hint="stop the node and run `mpisa node repair`"
        )
    try:
        return ChainParameters.decode(data)
    except Rejection as damage:
        raise damaged("parameters", damage) from damage
