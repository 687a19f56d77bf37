"""Who may come in: keys become callers here.

`keys` is a key as text, `identity` the check that every door asks. It knows nothing of HTTP nor of what a
request wants: that an admin key may not ask a model (`Caller.admin`) is the caller's to refuse.
"""
