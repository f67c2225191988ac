"""Which data do you mean: the built-in world, a data set by name, or a folder."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from rere_env.catalogue import Catalogue
from rere_env.data.datasets import Dataset, dataset_of, load_dataset
from rere_env.data.sources import Source
from rere_env.data.splits import chronological_splits
from rere_env.games import HISTORY_LENGTH, games_world, oracle

__all__ = ["GAMES", "ORIGINS", "data_places", "find_data", "games_dataset", "load_data"]

GAMES = "games"
"""The name of the built-in world."""


def load_data(data: str | Path = GAMES, history_length: int = 10) -> Dataset:
    """Return the built-in world, the data set in a folder, or one that `find_data` knows by name.

    Args:
        data: "games", a folder or a name ("toys", "yelp", ...).
        history_length: H; a longer history in the files is an error.

    Raises:
        ValueError: Another H than its own for the built-in world.
    """
    if str(data) == GAMES:
        if history_length != HISTORY_LENGTH:
            raise ValueError(
                f"`history_length` (={history_length}) must be {HISTORY_LENGTH} on the built-in "
                "world, whose law reads as much; leave it out, or use data of your own."
            )
        return games_dataset()
    folder = Path(data)
    if not folder.is_dir() and folder.name == str(data):
        folder = find_data(str(data))
    return load_dataset(folder, history_length=history_length)


ORIGINS = {
    "toys": "Amazon reviews 2014, 5-core 'Toys and Games': "
    "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    "industrial": "Amazon reviews 2018, 'Industrial and Scientific': "
    "https://nijianmo.github.io/amazon/",
    "office": "Amazon reviews 2018, 'Office Products': https://nijianmo.github.io/amazon/",
    "video_games": "Amazon reviews 2018, 5-core 'Video Games': https://nijianmo.github.io/amazon/",
    "yelp": "the Yelp Open Dataset: https://www.yelp.com/dataset",
}
"""Where the data of the well-known names come from."""


@cache
def games_dataset() -> Dataset:
    """Return the built-in world under the paper's protocol: chronological, 8:1:1."""
    world = games_world()
    keys = [str(item) for item in range(len(world.titles))]
    source = Source(
        catalogue=Catalogue.from_items(keys, world.titles),
        splits=chronological_splits(
            world.user, world.item, world.timestamp, history_length=HISTORY_LENGTH
        ),
        users={},
        counts={"interactions": len(world.user)},
    )
    return replace(dataset_of("games", source, HISTORY_LENGTH), oracle=oracle(world))


def find_data(name: str) -> Path:
    """Return the folder of a data set by name, from `$RERE_DATA` or else the user's cache.

    Raises:
        FileNotFoundError: It is in neither; the message says where it was looked for and how to
            build it.
    """
    places = data_places(name)
    for place in places:
        if place.is_dir():
            return place
    unset = " (RERE_DATA is not set)" if len(places) == 1 else ""
    origin = ""
    if name in ORIGINS:
        origin = f" Run: rere data get {name}. Or by hand: Get the files from {ORIGINS[name]}."
    raise FileNotFoundError(
        f"the data set {name!r} is not in {' or '.join(map(str, places))}{unset}.{origin} "
        f"Bring them into items.csv and interactions.csv in a folder SRC, then: "
        f"rere data build SRC {places[0]}"
    )


def data_places(name: str) -> list[Path]:
    """Return where a data set of this name belongs, the first place first: `$RERE_DATA`, cache."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    places = [Path(cache_home) / "rere_env" / name]
    if root := os.environ.get("RERE_DATA"):
        places.insert(0, Path(root) / name)
    return places
