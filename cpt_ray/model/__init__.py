"""Model: tokenizer, delimiters, encoder and initial weights."""
