"""Records that outlive the process: tables, migrations, one module per subject.

`database` opens the door; `workspaces`, `keys` and `usage` are what goes through it. Their functions take
whose data it is first (`Scope`, or the organization where a thing belongs to all of it), then the connection
of the transaction they work in, so that several of them can be one transaction. What a record means is
decided elsewhere.
"""
