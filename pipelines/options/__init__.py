"""What each pipeline can be told: a module each, which imports nothing heavy. Its text is what `--help` prints."""
