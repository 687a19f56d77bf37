"""What will be asked of the engine: the prompt, its exact length, the limits and the phases.

`rules` are the API's own about a conversation; `promises` refuses what this version cannot keep; `render` makes tokens;
`plan` puts them together.
"""
