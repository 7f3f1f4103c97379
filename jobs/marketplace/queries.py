"""What shoppers type into the search box: the noun of what they seek, and a word of its looks or brand."""

import numpy as np
import numpy.typing as npt

from jobs.marketplace.catalogue import BRANDS, Catalogue, Ints
from jobs.marketplace.words import COLOURS, STYLES

# A query is one integer: ((leaf · 2 + noun) · WORDS + word) · SPELLINGS + spelling. Word 0 is no word.
_STYLE_WORDS = [word for words in STYLES for word in words]
WORDS = 1 + len(_STYLE_WORDS) + len(COLOURS) + BRANDS
SPELLINGS = 3


def write_query(catalogue: Catalogue, items: Ints, rng: np.random.Generator) -> Ints:
    """Return the code of a query for each item that is looked for."""
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
    """Return the text of each code, as typed: some in capitals, some with too many blanks."""
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
