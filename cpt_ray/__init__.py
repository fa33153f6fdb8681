"""cpt-ray: from raw web text and source code to text and code embedding models, end to end, on Ray.

The system of "Text and Code Embeddings by Contrastive Pre-Training" (arXiv 2201.10005). The folders are the nouns of
the path: pages and repositories become documents, documents become duplicate-free pairs, pairs become ordered batches,
batches become a model, and the model is measured, tracked and used.
"""

__version__ = "0.1.0"
