"""From tokens to blocks: what the model made becomes the answer's content, its stop reason and its events."""
