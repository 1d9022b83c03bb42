"""Training one run, and the evaluations while it trains."""
