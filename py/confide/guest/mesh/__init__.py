"""A node's side of the mesh: joining, staying a member, and TLS between members."""
