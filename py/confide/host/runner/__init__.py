"""Boots images on this machine and plays the cloud for them. Trusted by nobody."""
