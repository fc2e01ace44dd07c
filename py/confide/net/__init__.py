"""HTTP, as every program of Confide serves and calls it.

Runs in measured machines and outside of them.
"""
