"""How bytes are read and written: canonical JSON and CBOR, declared messages, PEM, bounded files.

Runs in measured machines. Imports nothing of Confide but `confide.errors`, and `measure`.
"""
