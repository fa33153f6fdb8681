"""Documents and functions become pairs, pairs become ordered batches."""
