"""What holds source files, a module each; a new one is found by being here.

A module has `holds(path)`, by what the path names, and `opened(path, revision, clone)`, which gives its `Tree`. There are
revisions where it says REVISIONS. ENDINGS are those of the names it knows files by. All trees are mined by the one
function in `repositories`, and so give the same rows for the same files.
"""
