"""The parts of benches that decide what their figures say."""
