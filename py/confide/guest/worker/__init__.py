"""The worker: opens sealed requests, runs them on the engine, seals the answers."""
