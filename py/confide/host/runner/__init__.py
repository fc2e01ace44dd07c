"""Boots images on this computer, and acts as their cloud. Nobody trusts it."""
