"""Formats that others define: AMD, Intel, NVIDIA, the Trusted Computing Group.

Runs in measured machines. Parsers only: `confide.verify` decides what a field must say.
"""
