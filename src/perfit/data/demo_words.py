"""Word lists of the demo data. All written for perfit; persons and places are invented."""

from __future__ import annotations

from collections.abc import Mapping

_LISTS = {
    "travel": "airport suitcase passport itinerary hostel cruise luggage beach backpacking sightseeing visa resort",
    "education": "classroom teacher homework curriculum exam tuition campus textbook lecture pupil diploma school",
    "parents": "toddler bedtime stroller diaper playdate babysitter crib tantrum lullaby newborn parenting nursery",
    "style & beauty": "lipstick runway handbag hairstyle perfume dress mascara fashion stylist heels skincare outfit",
    "entertainment": "sitcom celebrity premiere trailer sequel actor blockbuster showrunner casting album concert film",
    "food & drink": "recipe chef oven dessert wine restaurant sauce bakery cocktail noodles cheese kitchen",
    "science & technology": "telescope robot laboratory software physicist microchip satellite algorithm genome rocket",
    "business": "investor profit merger startup payroll shareholder retailer revenue bank factory invoice market",
    "sports": "goalkeeper stadium playoff coach marathon referee league tennis sprint trophy swimmer match",
    "healthy living": "yoga meditation sleep vitamin jogging stress nutrition wellness therapy posture fitness hydration",
    "women": "sisterhood feminism suffrage motherhood gender heroine menopause equality girlhood midwife women",
    "politics": "senator ballot parliament campaign treaty veto minister election lobbyist congress governor vote",
    "crime": "burglar detective robbery suspect courtroom forgery arrest police smuggler theft prison witness",
    "culture & arts": "museum sculptor gallery orchestra ballet painting poetry opera exhibition novel mural theatre",
    "religion": "church prayer monastery pilgrimage sermon temple rabbi choir blessing mosque bishop scripture",
}

CATEGORY_WORDS: Mapping[str, tuple[str, ...]] = {name: tuple(line.split()) for name, line in _LISTS.items()}
"""The fifteen categories of LaMP-2N in the order of its question, each with words that belong to it alone."""

BEATS: tuple[tuple[str, ...], ...] = (
    ("parents", "women", "healthy living", "style & beauty"),
    ("politics", "business", "crime", "religion"),
    ("travel", "food & drink", "entertainment", "culture & arts"),
    ("education", "science & technology", "sports", "healthy living"),
)
"""What a writer writes about: four categories that can plausibly be mixed in one article."""

# fmt: off
PERSONS = (
    "Ada Brook", "Ben Corley", "Cleo Danforth", "Dario Elm", "Edda Fenwick", "Farid Grove", "Greta Hollis",
    "Hugo Ivers", "Ines Jarrow", "Jonas Kettle", "Kira Lund", "Leo Marsh", "Mona Nettles", "Nils Orchard",
    "Olga Penrose", "Pavel Quill",
)

PLACES = (
    "Alderbay", "Brackwater", "Cinderford", "Dunmere", "Eastholm", "Fernley", "Glasshaven", "Harrowgate Mills",
    "Ivyport", "Juniper Hill", "Kestrel Bay", "Larkfield", "Mossgrove", "Northwick", "Oldbridge", "Pinecrest",
)

SUBJECTS = (
    "baker", "sailor", "librarian", "gardener", "mayor", "plumber", "violinist", "nurse", "farmer", "painter",
    "tailor", "pilot", "beekeeper", "carpenter", "teacher", "barber", "fisherman", "potter", "clockmaker",
    "chemist", "ranger", "locksmith", "florist", "welder",
)

VERBS = (
    "repaired", "bought", "sold", "lost", "found", "painted", "moved", "borrowed", "restored", "copied", "hid",
    "cleaned", "measured", "rented", "shipped", "opened", "closed", "saved", "traded", "drew",
)

ADJECTIVES = (
    "old", "red", "broken", "tiny", "golden", "noisy", "wooden", "famous", "empty", "crooked", "silver", "dusty",
    "heavy", "secret", "striped", "glass", "rusty", "frozen", "painted", "hollow",
)

OBJECTS = (
    "bridge", "clock", "boat", "lantern", "piano", "fence", "statue", "bicycle", "wagon", "kettle", "mirror",
    "ladder", "tractor", "carpet", "telescope", "drum", "window", "anchor", "chimney", "barrel", "compass", "bench",
    "tower", "map",
)
# fmt: on

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
