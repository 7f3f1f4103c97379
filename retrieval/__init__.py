"""Retrieval: from embeddings, edges and ads to the next ads of a shopper, in a batch or over HTTP.

The ground files are the modules outside the wings (config, errors, queries, …); every wing may import them.
`index_folder`, which reads and writes the folder of an index, stands between the wings.
"""
