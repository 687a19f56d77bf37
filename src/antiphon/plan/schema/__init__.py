"""JSON Schemas of tools and of structured answers: checked against the documented subset, and lowered to grammars.

`documented` refuses what the API refuses; `lowering` writes a schema as rules of a grammar; `regex` and `formats` do
so for strings; `cache` keeps the results; `examples` checks a tool's examples. What a schema may cost is in
`structure`, and what its grammar may cost an engine in `ambiguity`. `effort` says where the work of a request is done:
at once, or `outside`, in a process (`child`) that can be killed. See docs/design/0009-schemas.md.
"""
