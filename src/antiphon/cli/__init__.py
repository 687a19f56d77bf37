"""The command line: one small module per command, over the same parts that the server is made of."""
