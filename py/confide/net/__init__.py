"""HTTP, as every program of Confide serves and calls it, in measured machines and outside."""
