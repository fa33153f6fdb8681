"""Sweep: the same training under several settings, by Ray Tune."""
