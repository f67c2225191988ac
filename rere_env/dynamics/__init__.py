"""How episodes go on: the transition function over arrays of rows. Knows nothing of Gymnasium."""

from rere_env.dynamics.groups import GroupedDynamics, Sync
from rere_env.dynamics.moves import Backend
from rere_env.dynamics.rows import Allowed, Driver, OnIllegal, Rows, Rules
from rere_env.dynamics.transition import Dynamics

__all__ = [
    "Allowed",
    "Backend",
    "Driver",
    "Dynamics",
    "GroupedDynamics",
    "OnIllegal",
    "Rows",
    "Rules",
    "Sync",
]
