"""Formats that others define: AMD, Intel, NVIDIA, the Trusted Computing Group.

Runs in measured machines. Parsers only: what a field must say is decided in `confide.verify`.
"""
