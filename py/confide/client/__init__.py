"""What the user, auditor or operator runs on a machine of their own, which they trust.

Never part of a measured machine.
"""
