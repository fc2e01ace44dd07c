"""Model disks: packing a model's folder into one, and verifying one. Runs on people's machines."""
