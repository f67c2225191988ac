"""The built-in world: a generated shop of games, its sales, and the exact law behind them."""

from rere_env.games.world import HISTORY_LENGTH, GamesWorld, Oracle, games_world, oracle

__all__ = ["HISTORY_LENGTH", "GamesWorld", "Oracle", "games_world", "oracle"]
