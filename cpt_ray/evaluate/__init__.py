"""Measuring a model: ranking metrics, search among candidates, linear probes, sentence similarity, baselines, and the
report."""
