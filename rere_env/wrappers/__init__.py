"""Other views of the environments: of their actions, their masks, their text, their ids.

Each view has a form for `ReReEnv` and one, named `Vector...`, for `ReReVectorEnv`.
"""

from rere_env.wrappers.actions import DecisionActions, VectorDecisionActions
from rere_env.wrappers.masks import (
    MaskInObservation,
    TianshouMask,
    VectorMaskInObservation,
    VectorTianshouMask,
)
from rere_env.wrappers.one_hot import OneHotObservation, VectorOneHotObservation
from rere_env.wrappers.text import EpisodeText, VectorEpisodeText

__all__ = [
    "DecisionActions",
    "EpisodeText",
    "MaskInObservation",
    "OneHotObservation",
    "TianshouMask",
    "VectorDecisionActions",
    "VectorEpisodeText",
    "VectorMaskInObservation",
    "VectorOneHotObservation",
    "VectorTianshouMask",
]
