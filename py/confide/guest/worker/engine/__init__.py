"""Inference engines in a worker: which runs where, how vLLM is started, and who watches it."""
