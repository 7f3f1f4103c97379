"""Learns LightSAGE embeddings of the whole catalogue from the item graph and the items' features (torch + PyG).

The folder `sessions` may import the modules that lie directly in `model` (config, errors, …); none of them imports it.
"""

import os

# Each step allocates about 100 MB for the gradient of the feature table. Most of the time for this goes into page
# faults, which huge pages avoid. torch reads this variable once, at its first large allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
