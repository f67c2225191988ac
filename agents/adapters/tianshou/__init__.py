"""Tianshou 2.x on our environment (extra `tianshou`)."""

from agents.adapters.tianshou.base import Agent, TrainedAgent  # first: names a missing extra

# isort: split
from agents.adapters.tianshou.agents import DQN, PPO, QRDQN, Reinforce, load_agent
from agents.adapters.tianshou.env import ReReTianshouEnv

__all__ = [
    "DQN",
    "PPO",
    "QRDQN",
    "Agent",
    "ReReTianshouEnv",
    "Reinforce",
    "TrainedAgent",
    "load_agent",
]
