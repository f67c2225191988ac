"""What a run was asked for, and the folder that it leaves. Loads no torch."""

from agents.runs.config import TrainConfig
from agents.runs.folder import RunFolder

__all__ = ["RunFolder", "TrainConfig"]
