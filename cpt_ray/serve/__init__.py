"""Using a model: embedding tables, searching them, answering over HTTP."""
