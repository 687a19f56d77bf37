"""Rate limits: how many requests and tokens an organization and its workspaces may use per minute.

`tiers` is the book of limits as data, `policy` what of it holds for one installation, `buckets` the contract of the
token buckets and their arithmetic, `memory` and `shared` its two bodies (this process, or a Valkey server for several),
`limiter` one request's way through them, `headers` what a client is told.

It knows nothing of money (spend limits), of seats, nor of how many batch requests are waiting: that number must
outlive a restart, so it is counted in the rows of the batches; only its limit stands here.
"""
