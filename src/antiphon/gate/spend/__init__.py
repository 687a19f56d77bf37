"""Spend limits: what an organization and its workspaces may spend in a day, a week or a month.

`budgets` says which budgets bind whom and when their periods begin and end, `accounts` is the contract of the counters
of one period, `memory` and `shared` its two bodies (this process, or a Valkey server for several), and `spending` one
request's way through them.

A budget loses a request's bound (the most it can cost) before the request takes a seat, and is given back what it did
not cost afterwards. So of many requests at once no more are let in than can be paid for. One that is alone is let in
also where its bound is larger than what is left: what is spent may then be over the budget by less than that bound.
"""
