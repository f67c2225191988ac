"""A generated shop: franchises, their instalments, and a title for every version sold.

Whatever the law of the next item looks at can be read, or guessed, from the words of a title.
Knows nothing of users.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rere_env.games.draws import Draws
from rere_env.games.words import (
    ADJECTIVES,
    COINED,
    EDITIONS,
    GENRES,
    NOUNS,
    OPENINGS,
    PLATFORMS,
    ROMAN,
    SUBTITLES,
)

__all__ = ["Shop", "build_shop"]

NUM_GAMES = 3_000
NUM_STUDIOS = 60
FAME = 80_000
FAME_OFFSET = 40

# Chances in percent, weights in any unit: integers all, so that no draw hangs on a rounding.
INSTALMENT_WEIGHTS = (8, 12, 18, 20, 16, 12, 8, 6)  # 1 to 8 instalments
EXTRA_PLATFORM_WEIGHTS = (5, 10, 20, 30, 35)  # 0 to 4 draws besides the studio's own
PLATFORM_SHARE = (22, 21, 20, 19, 18)
PLATFORM_POPULARITY = (100, 95, 90, 85, 80)  # percent
EDITION_POPULARITY = (100, 45, 35, 50, 25)  # percent
EDITION_CHANCE = 15
SUBTITLE_CHANCE = 25
ROMAN_CHANCE = 30
GENRE_WORD_CHANCE = 75
# Late ports and editions can be guessed from words: their franchise, number and platform are known
# from other titles. A late sequel is harder: training says that its fans buy something else.
LATE_SEQUEL_CHANCE = 15
LATE_VERSION_CHANCE = 45


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shop:
    """What is sold: one row an item.

    Attributes:
        titles: [I] distinct.
        franchise: [I] from 0.
        instalment: [I] place in the franchise, from 1.
        genre: [I] index into `GENRES`.
        platform: [I] index into `PLATFORMS`.
        edition: [I] index into `EDITIONS`.
        studio: [I] from 0.
        popularity: [I] integer weights, at least 1.
        released_late: [I] True: not for sale in the training period.
    """

    titles: tuple[str, ...]
    franchise: NDArray[np.int64]
    instalment: NDArray[np.int64]
    genre: NDArray[np.int64]
    platform: NDArray[np.int64]
    edition: NDArray[np.int64]
    studio: NDArray[np.int64]
    popularity: NDArray[np.int64]
    released_late: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Franchise:
    number: int
    name: str
    studio: int
    genre: int
    platforms: tuple[int, ...]
    num_instalments: int
    roman: bool
    genre_word: bool
    last_is_late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Game:
    title: str
    franchise: int
    instalment: int
    genre: int
    platform: int
    edition: int
    studio: int
    popularity: int
    released_late: bool


def build_shop(seed: int) -> Shop:
    """Return the shop that belongs to a seed: whole franchises, at most `NUM_GAMES` items."""
    draws = Draws(seed, 0)
    games: list[_Game] = []
    for franchise in _franchises(draws):
        family = list(_games(franchise, draws))
        if len(games) + len(family) > NUM_GAMES:
            break
        games += family
    # An id must not give away the franchise: only words may.
    games = [games[row] for row in draws.shuffled(len(games))]
    columns = {
        field.name: np.array([getattr(game, field.name) for game in games])
        for field in fields(_Game)
        if field.name != "title"
    }
    return Shop(titles=tuple(game.title for game in games), **columns)


def _franchises(draws: Draws) -> Iterator[_Franchise]:
    """Yield franchises without end, the best known first."""
    studios = [(n % len(GENRES), draws.weighted(PLATFORM_SHARE)) for n in range(NUM_STUDIOS)]
    names: set[str] = set()
    coined = [COINED[n] for n in draws.shuffled(len(COINED))]
    number = 0
    while True:
        studio = draws.below(NUM_STUDIOS)
        genre, home = studios[studio]
        name = _franchise_name(genre, coined, draws)
        if name in names:
            continue
        names.add(name)
        platforms = {home: None}
        for _ in range(draws.weighted(EXTRA_PLATFORM_WEIGHTS)):
            platforms[draws.weighted(PLATFORM_SHARE)] = None
        num_instalments = 1 + draws.weighted(INSTALMENT_WEIGHTS)
        yield _Franchise(
            number=number,
            name=name,
            studio=studio,
            genre=genre,
            platforms=tuple(platforms),
            num_instalments=num_instalments,
            roman=draws.chance(ROMAN_CHANCE),
            # A name of one word needs the genre's to make a title of three.
            genre_word=draws.chance(GENRE_WORD_CHANCE) or " " not in name,
            last_is_late=num_instalments > 1 and draws.chance(LATE_SEQUEL_CHANCE),
        )
        number += 1


def _franchise_name(genre: int, coined: list[str], draws: Draws) -> str:
    noun = draws.pick(NOUNS[GENRES[genre]])
    kind = draws.weighted((76, 14, 10))
    if kind == 1:
        return f"{draws.pick(OPENINGS)} {noun}"
    if kind == 2 and coined:
        return coined.pop()
    return f"{draws.pick(ADJECTIVES)} {noun}"


def _games(franchise: _Franchise, draws: Draws) -> Iterator[_Game]:
    """Yield every version of every instalment."""
    fame = FAME // (franchise.number + FAME_OFFSET)  # a long tail
    for instalment in range(1, franchise.num_instalments + 1):
        subtitle = draws.pick(SUBTITLES) if draws.chance(SUBTITLE_CHANCE) else ""
        quality = 60 + draws.below(81)  # percent
        versions = [(platform, 0) for platform in franchise.platforms]
        edition = 1 + draws.below(len(EDITIONS) - 1)
        versions += [(p, edition) for p in franchise.platforms if draws.chance(EDITION_CHANCE)]
        for platform, edition in versions:
            percents = quality * PLATFORM_POPULARITY[platform] * EDITION_POPULARITY[edition]
            yield _Game(
                title=_title(franchise, instalment, subtitle, platform, edition),
                franchise=franchise.number,
                instalment=instalment,
                genre=franchise.genre,
                platform=platform,
                edition=edition,
                studio=franchise.studio,
                popularity=max(1, fame * percents // 100**3),
                released_late=(
                    (franchise.last_is_late and instalment == franchise.num_instalments)
                    or ((platform, edition) != versions[0] and draws.chance(LATE_VERSION_CHANCE))
                ),
            )


def _title(
    franchise: _Franchise, instalment: int, subtitle: str, platform: int, edition: int
) -> str:
    """Join the words: at most 3 + 1 + 1 + 1 + 2 + 2, less by name, never all at once."""
    number = ROMAN[instalment - 1] if franchise.roman else str(instalment)
    parts = (
        franchise.name,
        number if instalment > 1 else "",
        subtitle if not edition else "",
        GENRES[franchise.genre] if franchise.genre_word else "",
        PLATFORMS[platform],
        EDITIONS[edition],
    )
    return " ".join(part for part in parts if part)
