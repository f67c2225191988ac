"""The environments: one user, or N at once. Knows Gymnasium, and the rules by `dynamics` alone."""

from rere_env.envs.single import ReReEnv
from rere_env.envs.vector import ReReVectorEnv

__all__ = ["ReReEnv", "ReReVectorEnv"]
