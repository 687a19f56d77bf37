"""What each request used: durable on the local disk before the last byte is sent, in the database soon after.

`framing` is the journal's bytes, `folder` its files, `journal` the way in, `posting` the way on to the
database. What a record costs is not decided here.
"""
