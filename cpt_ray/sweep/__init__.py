"""Sweep: the same training under several settings, by Ray Tune; `searches/` has a file for each way of choosing them."""
