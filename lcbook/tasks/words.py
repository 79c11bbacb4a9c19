"""Words: the lists from which items are drawn. Every word is lower case unless it is a name, and stands in one list."""

from __future__ import annotations

KEYS = tuple(
    """acorn amber anchor anvil apron arrow basil beacon birch bottle brush bucket button candle canvas carpet
    cedar chalk chisel clover cobalt compass copper coral cotton cradle dagger drum easel ember feather fiddle flint
    funnel garnet ginger goblet hammer harbor hazel helmet indigo ivory jasper kettle ladder lantern lemon lentil
    marble meadow mirror needle nutmeg olive onyx paddle pebble pepper pillow quartz ribbon saddle velvet""".split()
)
ADJECTIVES = tuple(
    "broken bright brown cheap clean dark dusty empty faded green heavy old plain quiet sharp small".split()
)
PEOPLE = tuple(
    """Ada Boris Clara Dmitri Elena Farid Greta Hugo Ines Jonas Katya Lars Mira Nadia Oskar Priya Quentin Rosa Stefan
    Tilda Umar Vera Wanda Xenia Yusuf Zora Anton Bella Cyril Dora Emil Freya""".split()
)
# What is said of a person, and the words that it can be.
RELATIONS = {
    "job": tuple(
        "baker carpenter doctor farmer lawyer nurse painter plumber tailor teacher weaver miller".split()
    ),
    "pet": tuple("beetle camel donkey ferret gecko goose hamster llama otter parrot rabbit tortoise".split()),
    "drink": tuple("cider cocoa coffee juice lemonade milk soda sherry squash tea tonic water".split()),
    "sport": tuple(
        "archery boxing cricket fencing golf hockey judo rowing rugby skating surfing tennis".split()
    ),
}
# A landmark and the city in which it stands: a question can name one where the text names the other.
LANDMARKS = {
    "Colosseum": "Rome", "Kremlin": "Moscow", "Louvre": "Paris", "Parthenon": "Athens", "Prado": "Madrid",
    "Alhambra": "Granada", "Hermitage": "Petersburg", "Rijksmuseum": "Amsterdam", "Semperoper": "Dresden",
    "Atomium": "Brussels", "Uffizi": "Florence", "Sagrada": "Barcelona", "Belem": "Lisbon", "Rialto": "Venice",
    "Hofburg": "Vienna", "Alcazar": "Seville",
}  # fmt: skip
CANDIDATES = tuple("apple banana cherry grape lime mango melon peach pear plum".split())
NUMBERS = tuple(str(number) for number in range(100, 1000))
COUNTS = tuple(str(number) for number in range(1, 21))
