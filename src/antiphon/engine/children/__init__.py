"""The programs that run in engine children: one module per embedded library. Nothing here is imported by the server."""
