"""Artifacts before eyes: a page about one, and the way of a pair back to where its texts stand."""
