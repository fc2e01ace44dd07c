"""NVIDIA: SPDM measurements, firmware identities, reference integrity manifests."""
