"""Stable-Baselines3 and sb3-contrib on our environment (extra `sb3`)."""

try:
    from agents.adapters.sb3.agents import A2C, DQN, PPO, MaskablePPO, load_agent
    from agents.adapters.sb3.base import TrainedAgent
    from agents.adapters.sb3.embedding import EmbeddingExtractor
    from agents.adapters.sb3.env import ReReVecEnv, make_vec_env
except ImportError as error:
    raise ImportError(
        f"the agents of Stable-Baselines3 need the extra `sb3` ({error}); "
        'run `pip install "rere-env[sb3]"`.'
    ) from error

__all__ = [
    "A2C",
    "DQN",
    "PPO",
    "EmbeddingExtractor",
    "MaskablePPO",
    "ReReVecEnv",
    "TrainedAgent",
    "load_agent",
    "make_vec_env",
]
