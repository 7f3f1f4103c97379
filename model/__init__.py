"""The model room: item graph and item features in, LightSAGE embeddings of the whole catalogue out (torch + PyG)."""

import os

# The gradient of the feature table is a fresh hundred MB every step, most of whose cost are page faults: huge pages
# spare them. torch reads this once, at its first large allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
