"""cpt-ray: from raw web text and source code to text and code embedding models, end to end, on Ray.

The system of "Text and Code Embeddings by Contrastive Pre-Training" (arXiv 2201.10005). The folders are the nouns of
the path: pages and repositories become documents, documents become duplicate-free pairs, pairs become ordered batches,
batches become a model, and the model is measured, tracked and used.
"""

__version__ = "0.1.0"

_STEPS = ("Artifact", "read_archives", "extract", "mine", "clean", "deduplicate", "pair_texts", "pair_code", "store")
"""What `cpt_ray.corpus` offers by the name of the package, as `serve.datasets` does `embed`: imported once asked for."""


def __getattr__(name: str) -> object:
    if name == "embed":
        from cpt_ray.serve.datasets import embed

        return embed
    if name not in _STEPS:
        raise AttributeError(f"module 'cpt_ray' has no attribute {name!r}")
    from cpt_ray import corpus

    return getattr(corpus, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_STEPS, "embed"])
