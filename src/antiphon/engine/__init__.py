"""Engines: tokens in, tokens out. They know nothing of messages.

`contract` is what every body promises; `scripted` and `embedded` are bodies; `seats` is the queue before them;
`supervisor` keeps the child processes alive that `children` holds the code of, and `frames` is what they speak.
`vocabulary`, `gguf` and `tokenizer` turn a model file into the tokens that prompts are made of.
"""
