"""Deduplication of documents, functions and pairs alike: exact, then MinHash, verified, explained."""
