"""Model disks: pack a model's folder into one, and verify one. Runs on the operator's machine."""
