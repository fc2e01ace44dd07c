"""Collateral item by item: whether it is its vendor's, how new it is, and who can need it."""
