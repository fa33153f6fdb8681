"""Experiment tracking on MLflow; training knows nothing of it and reports through a plain function."""
