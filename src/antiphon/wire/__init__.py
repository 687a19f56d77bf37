"""The API's types, as they are on the wire: parsed once at the edge, closed from then on.

`parse` turns bytes into a request; `request`, `blocks` and `tools` are what comes in; `response`, `events`, `models`
and `errors` are what goes out. What the server does with any of it is not decided here.
"""
