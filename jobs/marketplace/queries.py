"""Search queries of the marketplace's shoppers: a noun for the item, often with its style, colour or brand."""

import numpy as np
import numpy.typing as npt

from jobs.marketplace.catalogue import BRANDS, Catalogue, Ints
from jobs.marketplace.words import COLOURS, STYLES

# A query is encoded as one integer: ((leaf · 2 + noun) · WORDS + word) · SPELLINGS + spelling. Word 0 stands for none.
_STYLE_WORDS = [word for words in STYLES for word in words]
WORDS = 1 + len(_STYLE_WORDS) + len(COLOURS) + BRANDS
SPELLINGS = 3


def draw_queries(catalogue: Catalogue, items: Ints, rng: np.random.Generator) -> Ints:
    """Return for each item the code of a query by which a shopper searches for it.

    Args:
        catalogue: all items.
        items: positions in the catalogue.
        rng: the source of random numbers.
    """
    n = len(items)
    nouns = np.array([len(leaf.nouns) for leaf in catalogue.leaves])
    leaf = catalogue.leaf[items]
    noun = (rng.random(n) * nouns[leaf]).astype(int)
    kind = rng.choice(4, n, p=(0.3, 0.25, 0.2, 0.25))
    style = 1 + catalogue.style_group[items] * 3 + rng.integers(3, size=n)
    colour = 1 + len(_STYLE_WORDS) + catalogue.colour[items]
    brand = 1 + len(_STYLE_WORDS) + len(COLOURS) + catalogue.brand[items]
    word = np.choose(kind, (np.zeros(n, int), style, colour, brand))
    spelling = rng.choice(SPELLINGS, n, p=(0.9, 0.07, 0.03))
    code: Ints = ((leaf * 2 + noun) * WORDS + word) * SPELLINGS + spelling
    return code


def query_texts(catalogue: Catalogue, codes: Ints) -> npt.NDArray[np.object_]:
    """Return the text of each query as the shopper typed it: some capitalised, some with extra spaces.

    Args:
        catalogue: all items.
        codes: the encoded queries, from `draw_queries`.
    """
    words = ["", *_STYLE_WORDS, *COLOURS, *(name.lower() for name in catalogue.brand_names)]

    def text(code: int) -> str:
        rest, spelling = divmod(code, SPELLINGS)
        rest, word = divmod(rest, WORDS)
        leaf, noun = divmod(rest, 2)
        plain = f"{words[word]} {catalogue.leaves[leaf].nouns[noun]}".strip()
        return (plain, plain.title(), f" {plain.replace(' ', '  ')} ")[spelling]

    distinct, position = np.unique(codes, return_inverse=True)
    texts = np.array([text(int(code)) for code in distinct], dtype=object)
    return texts[position]
