"""The parts of `bench.cache`."""
