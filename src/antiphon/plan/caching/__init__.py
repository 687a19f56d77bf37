"""The cache plan: what of a prompt is billed as read from the cache and written to it, exactly by the documented rule
(contract messages-and-inference 7; docs/design/0015).

`positions` lists the places where a cached prefix may end and those where the request marks one; `prefixes` gives each
a running key; `index` remembers which keys were written and are alive; `bill` splits the prompt's tokens by what was
found; `diagnosis` says where two requests part."""
