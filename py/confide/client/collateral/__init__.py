"""Where vendors' statements come from: an offline bundle, a cache on disk, then the network."""
