"""What a manifest demands of each platform and of GPUs."""
