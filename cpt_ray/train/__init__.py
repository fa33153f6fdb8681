"""Train: exact large-batch contrastive learning, and causal language modelling for the first weights."""
