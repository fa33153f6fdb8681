"""The packages installed in this environment, and a documentation site made of them."""

from cpt_ray.installed.distributions import Distribution, SourceFile, distributions, fingerprint

__all__ = ["Distribution", "SourceFile", "distributions", "fingerprint"]
