"""Benches: each is `make bench-NAME`, prints a table, writes `results/NAME.json` and fails when a bar is missed."""
