"""What an operator runs on machines that nobody has to trust.

Never part of a measured machine.
"""
