"""Verifiers: what a client or a node checks. Nothing here imports what a guest issues."""
