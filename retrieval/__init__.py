"""Retrieval: from embeddings, edges and ads to the next ads of a shopper, in a batch or over HTTP."""
