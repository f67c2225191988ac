"""The words that game titles are made of. Knows nothing of numbers, draws or users."""

__all__ = [
    "ADJECTIVES",
    "COINED",
    "EDITIONS",
    "GENRES",
    "NOUNS",
    "OPENINGS",
    "PLATFORMS",
    "ROMAN",
    "SUBTITLES",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = {
    "Racing": _words(
        "Apex Asphalt Circuit Drift Gearbox Grid Horizon Lap Motor Rally Redline Throttle "
        "Turbo Velocity"
    ),
    "RPG": _words(
        "Chronicle Crown Dragon Dynasty Elixir Grimoire Kingdom Oath Paladin Prophecy Relic "
        "Rune Sorcerer Throne"
    ),
    "Shooter": _words(
        "Ambush Ballistic Bravo Bullet Caliber Command Crosshair Frontline Platoon Recoil "
        "Sniper Strike Trigger Warzone"
    ),
    "Puzzle": _words(
        "Blocks Cipher Cube Gems Labyrinth Lantern Maze Mosaic Prism Riddle Sequence Tangle "
        "Tiles Tower"
    ),
    "Strategy": _words(
        "Armies Barracks Bastion Border Cartel Citadel Conquest Empire Flank Legion March "
        "Senate Siege Territory"
    ),
    "Platformer": _words(
        "Acorn Bounce Carrot Gizmo Hopper Jumper Kangaroo Mushroom Penguin Pixel Rabbit "
        "Robot Squirrel Wizard"
    ),
    "Simulator": _words(
        "Airport Bakery Cargo Colony Farm Ferry Harbor Hospital Locomotive Orchard "
        "Railway Tractor Trucker Zoo"
    ),
    "Fighting": _words(
        "Arena Brawl Champion Clash Dojo Duel Fist Fury Gauntlet Knuckle Rival Ronin "
        "Tournament Uppercut"
    ),
    "Adventure": _words(
        "Atlas Canyon Compass Detective Expedition Island Journey Lagoon Mystery Passage "
        "Pilgrim River Temple Voyage"
    ),
    "Horror": _words(
        "Asylum Candle Corpse Crypt Dread Lullaby Manor Morgue Nightmare Ritual Shade Vein "
        "Whisper Wraith"
    ),
    "Sports": _words(
        "Baseball Boxing Cricket Football Golf Hockey League Olympiad Rugby Skater Slalom "
        "Stadium Tennis Volley"
    ),
    "Survival": _words(
        "Ash Bunker Castaway Drought Exodus Famine Fallout Haven Outpost Remnant Shelter "
        "Tundra Wasteland Winter"
    ),
}
"""A genre's own nouns: a franchise's name hints at its genre."""

GENRES = tuple(NOUNS)

ADJECTIVES = _words(
    "Amber Ancient Arctic Astral Black Blazing Blind Broken Bronze Burning Cobalt Copper Cosmic "
    "Crimson Crystal Dark Desert Distant Electric Emerald Endless Eternal Fallen Final Flying "
    "Forgotten Frozen Ghostly Giant Golden Grand Hidden Hollow Hungry Infinite Iron Ivory Jade "
    "Laughing Little Lonely Lost Lucky Lunar Mad Midnight Mighty Molten Neon Northern Obsidian "
    "Paper Perfect Phantom Pocket Quiet Raging Rapid Restless Royal Rusty Sacred Savage Scarlet "
    "Secret Shattered Silent Silver Solar Stolen Stormy Sunken Super Twisted Velvet Violet Wild "
    "Wicked"
)

COINED = _words(
    "Aldoria Brakkis Cindrel Dorvane Elyndra Fennaro Galdrim Hexalon Irvanta Jorvik Kaldera Lumora "
    "Mirathel Noctara Ostrava Pellagos Quorra Rivenna Sablefen Tarkona Umbriel Valdris Wyrmoor "
    "Xandria Ysolde Zephyra Ardanis Belthar Corvane Drakmoor Eskaria Faldren Gorvath Halcyra "
    "Ithalon Jarrow Kestrane Lorvessa Morvain Nerith Ondara Praxis Quillon Ravendal Solvane "
    "Thornwick Ulmara Vexara Windmere Zarathel"
)
"""Names that say nothing of the genre."""

OPENINGS = ("Tales of", "Legend of", "Song of", "House of")

SUBTITLES = _words(
    "Aftermath Ascension Awakening Betrayal Crossroads Downfall Echoes Genesis Homecoming "
    "Inferno Judgment Legacy Origins Rebirth Reckoning Requiem Resurgence Revelation Uprising "
    "Vengeance"
)

ROMAN = ("", "II", "III", "IV", "V", "VI", "VII", "VIII")

PLATFORMS = ("PC", "for Novabox", "for Playdeck", "for Vega", "Mobile")

EDITIONS = ("", "Deluxe Edition", "Gold Edition", "Remastered", "Collector Edition")
"""The first is the ordinary release."""
