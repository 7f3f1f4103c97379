"""The model room: item graph and item features in, LightSAGE embeddings of the whole catalogue out (torch + PyG).

The ground files are the modules outside the wing `sessions` (config, errors, …); the wing may import them.
"""

import os

# Each step allocates about 100 MB for the gradient of the feature table. Most of that cost is page faults, which huge
# pages avoid. torch reads this variable once, at its first large allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
