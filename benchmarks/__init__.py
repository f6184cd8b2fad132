"""Speed, measured as ratios or differences paired in one run; ``python -m benchmarks [NAME] [--json]``."""
