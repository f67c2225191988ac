"""A person writes a slate: the game behind `rere play`."""

from agents.play.game import Game, play

__all__ = ["Game", "play"]
