"""What we use of libraries and they do not promise: a module per library, named as it is, and nowhere else.

Each says in `VERSION` what it is true for, and imports of its library what it must when it is called. `tests/compat` looks at
every internal on the version that is installed; a wall test keeps private names of others, and imports of these libraries'
inner modules, out of all other rooms.
"""
