"""Data, training, comparing and sampling in a browser: pages that call operations, and a queue of runs."""
