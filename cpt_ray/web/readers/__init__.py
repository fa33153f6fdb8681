"""The formats of archives, a module each; a new one is found by being here.

A format has `ENDINGS` (how its files' names end, before `.gz` or `.zst`), `START` (the first bytes of a record, by which
it is told from others and found again behind damage) and `read(stream, name, max_bytes)`: the next record, None at the
end; it raises Damage where the stream is none.
"""
