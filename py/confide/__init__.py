"""Confide: private AI inference in measured virtual machines that nobody has to trust blindly."""

__version__ = "0.1.0"
