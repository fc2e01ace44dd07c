"""Simulations that only tests use."""
