"""Embeddings of texts, and nearest neighbours among them."""
