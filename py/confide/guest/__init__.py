"""What runs in measured machines only. Each folder is a role or serves the roles.

A machine's launch measurement covers these files. Nothing here imports `client`, `host` or
`commands`.
"""
