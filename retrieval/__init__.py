"""Retrieval: turns embeddings, edges and ads into the ads to show a shopper next, in a batch or over HTTP.

Every folder may import the modules that lie directly in `retrieval` (config, errors, queries, …). The only exception is
`index_folder`: it imports `catalogue`, `ann` and `ranking`, so these and `evaluation` may not import it.
"""
