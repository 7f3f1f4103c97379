"""The model room: item graph and item features in, LightSAGE embeddings of the whole catalogue out (torch + PyG)."""
