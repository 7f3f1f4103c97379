"""The marketplace's vocabulary: its category tree, and the words of brands, titles and queries."""

from typing import NamedTuple


class LeafCategory(NamedTuple):
    """A category without children: its path, the nouns of its titles, its median price, and the themes it suits."""

    path: str
    nouns: tuple[str, ...]
    median_price: float
    themes: tuple[str, ...]


# path | nouns | median price | themes. Items of two categories that share a theme are bought together.
_LEAVES = """
Fashion > Women > Dresses | dress, gown | 49 | party, summer
Fashion > Women > Skirts | skirt | 34 | office, summer
Fashion > Women > Blouses | blouse, top | 29 | office, party
Fashion > Women > Heels | heels, pumps | 69 | party
Fashion > Women > Handbags | handbag, clutch | 79 | party, office
Fashion > Men > Shirts | shirt | 39 | office, party
Fashion > Men > Jeans | jeans, denim trousers | 59 | street
Fashion > Men > Suits | suit, blazer | 159 | office, party
Fashion > Men > Sneakers | sneakers, trainers | 89 | street, running
Fashion > Men > Jackets | jacket, parka | 119 | hiking, street
Fashion > Accessories > Watches | watch, chronograph | 129 | office, party
Fashion > Accessories > Sunglasses | sunglasses, shades | 45 | summer, street
Fashion > Accessories > Belts | belt | 25 | office, street
Fashion > Accessories > Scarves | scarf, shawl | 22 | winter
Fashion > Accessories > Gloves | gloves, mittens | 19 | winter, cycling
Sports > Running > Shoes | running shoes | 99 | running
Sports > Running > Tights | running tights, leggings | 39 | running, yoga
Sports > Running > Bottles | water bottle, flask | 15 | running, hiking, cycling
Sports > Outdoor > Tents | tent | 189 | camping
Sports > Outdoor > Sleeping bags | sleeping bag | 79 | camping
Sports > Outdoor > Backpacks | backpack, rucksack | 69 | camping, hiking, school
Sports > Outdoor > Boots | hiking boots | 129 | hiking, winter
Sports > Outdoor > Headlamps | headlamp, torch | 29 | camping, running
Sports > Cycling > Helmets | bike helmet | 59 | cycling
Sports > Cycling > Lights | bike light | 25 | cycling
Sports > Cycling > Jerseys | cycling jersey | 45 | cycling
Sports > Yoga > Mats | yoga mat | 32 | yoga
Sports > Yoga > Blocks | yoga block | 12 | yoga
Electronics > Phones > Smartphones | smartphone, phone | 349 | mobile
Electronics > Phones > Cases | phone case, cover | 15 | mobile
Electronics > Phones > Chargers | charger, power bank | 25 | mobile, travel
Electronics > Audio > Headphones | headphones, headset | 89 | mobile, gaming, running
Electronics > Audio > Speakers | bluetooth speaker, speaker | 69 | party, camping
Electronics > Computers > Laptops | laptop, notebook | 799 | desk, school
Electronics > Computers > Keyboards | keyboard | 59 | desk, gaming
Electronics > Computers > Mice | mouse | 35 | desk, gaming
Electronics > Computers > Monitors | monitor, display | 219 | desk, gaming
Electronics > Gaming > Consoles | game console | 399 | gaming
Electronics > Gaming > Controllers | controller, gamepad | 49 | gaming
Home > Kitchen > Pans | frying pan, skillet | 39 | cooking
Home > Kitchen > Knives | chef knife, kitchen knife | 35 | cooking
Home > Kitchen > Cutting boards | cutting board | 22 | cooking
Home > Kitchen > Coffee makers | coffee maker, espresso machine | 119 | coffee
Home > Kitchen > Mugs | mug, cup | 12 | coffee, desk
Home > Kitchen > Coffee grinders | coffee grinder | 45 | coffee
Home > Living > Sofas | sofa, couch | 599 | living
Home > Living > Cushions | cushion, throw pillow | 19 | living
Home > Living > Rugs | rug, carpet | 99 | living, nursery
Home > Living > Lamps | lamp, floor lamp | 59 | living, desk
Home > Living > Curtains | curtains | 35 | living, sleep
Home > Bedroom > Bed linen | bed linen, duvet cover | 49 | sleep
Home > Bedroom > Pillows | pillow | 29 | sleep
Home > Bedroom > Blankets | blanket, throw | 35 | sleep, living, winter
Home > Office > Desks | desk | 199 | desk
Home > Office > Chairs | office chair | 169 | desk, gaming
Home > Office > Organisers | desk organiser, pen holder | 15 | desk, school
Garden > Plants | plant, houseplant | 18 | balcony, living
Garden > Pots | plant pot, planter | 16 | balcony, living
Garden > Furniture | garden chair, lounger | 89 | balcony, summer
Garden > Grills | grill, barbecue | 149 | balcony, camping
Beauty > Make-up > Lipsticks | lipstick | 14 | party
Beauty > Make-up > Palettes | eyeshadow palette | 24 | party
Beauty > Skin > Creams | face cream, moisturiser | 22 | care
Beauty > Skin > Sun care | sunscreen | 15 | summer, hiking, care
Beauty > Hair > Dryers | hair dryer | 45 | care, travel
Beauty > Perfume | perfume, eau de toilette | 59 | party, care
Toys > Baby > Strollers | stroller, buggy | 259 | baby
Toys > Baby > Carriers | baby carrier | 79 | baby, hiking
Toys > Baby > Blankets | baby blanket | 22 | baby, nursery
Toys > Building > Blocks | building blocks | 35 | nursery, play
Toys > Games > Board games | board game | 29 | play
Toys > Games > Puzzles | puzzle, jigsaw | 16 | play
Toys > Plush | plush toy, teddy | 18 | nursery, baby
Travel > Suitcases | suitcase, trolley | 119 | travel
Travel > Toiletry bags | toiletry bag, wash bag | 22 | travel, care
Travel > Neck pillows | neck pillow | 18 | travel, sleep
Stationery > Notebooks | notebook, journal | 9 | school, desk
Stationery > Pens | fountain pen, pen set | 19 | school, office
"""


def leaf_categories() -> tuple[LeafCategory, ...]:
    """Return the leaves of the category tree; the levels of a path are separated by ` > `."""

    def leaf(line: str) -> LeafCategory:
        path, nouns, price, themes = (field.strip() for field in line.split("|"))
        return LeafCategory(path, tuple(nouns.split(", ")), float(price), tuple(themes.split(", ")))

    return tuple(leaf(line) for line in _LEAVES.strip().splitlines())


# Each style has several words, so that two items of the same style may share none.
STYLES: tuple[tuple[str, ...], ...] = (
    ("minimalist", "plain", "clean-cut"),
    ("retro", "vintage", "sixties"),
    ("floral", "botanical", "blossom"),
    ("industrial", "loft", "raw"),
    ("bohemian", "boho", "ethnic"),
    ("sporty", "athletic", "dynamic"),
    ("elegant", "refined", "graceful"),
    ("rustic", "country", "farmhouse"),
    ("nordic", "scandinavian", "hygge"),
    ("urban", "street", "metro"),
    ("pastel", "soft", "candy"),
    ("utility", "cargo", "tactical"),
    ("gothic", "dark", "noir"),
    ("tropical", "jungle", "exotic"),
    ("classic", "timeless", "heritage"),
    ("futuristic", "techno", "neon"),
    ("cottage", "gingham", "homespun"),
    ("nautical", "marine", "sailor"),
    ("playful", "funny", "cartoon"),
    ("luxury", "premium", "deluxe"),
)

COLOURS = (
    "black",
    "white",
    "grey",
    "navy",
    "blue",
    "teal",
    "green",
    "olive",
    "yellow",
    "mustard",
    "orange",
    "red",
    "burgundy",
    "pink",
    "lilac",
    "beige",
    "brown",
    "silver",
    "gold",
    "cream",
)

# The materials of each department's items.
MATERIALS: dict[str, tuple[str, ...]] = {
    "Fashion": ("leather", "cotton", "linen", "wool", "velvet", "denim", "silk", "recycled"),
    "Sports": ("nylon", "merino", "aluminium", "carbon", "mesh", "recycled", "silicone", "titanium"),
    "Electronics": ("aluminium", "titanium", "glass", "matt", "rubberised", "carbon", "wireless", "compact"),
    "Home": ("oak", "bamboo", "steel", "handmade", "natural", "matt", "brushed", "recycled"),
    "Garden": ("teak", "terracotta", "rattan", "steel", "zinc", "bamboo", "ceramic", "glazed"),
    "Beauty": ("vegan", "organic", "mineral", "rose", "almond", "aloe", "citrus", "vanilla"),
    "Toys": ("wooden", "cotton", "felt", "recycled", "organic", "bamboo", "soft-touch", "magnetic"),
    "Travel": (
        "nylon",
        "leather",
        "canvas",
        "polycarbonate",
        "memory-foam",
        "recycled",
        "aluminium",
        "compact",
    ),
    "Stationery": ("leather", "linen", "recycled", "brass", "dotted", "steel", "resin", "bamboo"),
}

SYLLABLES = (
    "nor",
    "vik",
    "al",
    "ta",
    "mi",
    "ren",
    "ka",
    "lo",
    "ver",
    "de",
    "sol",
    "bri",
    "an",
    "tu",
    "fen",
    "gar",
    "is",
    "mo",
    "pel",
    "ro",
    "san",
    "cu",
    "lin",
    "ba",
)
