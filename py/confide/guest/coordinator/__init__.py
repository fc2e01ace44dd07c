"""The coordinator: holds the manifest, attests every node, issues mesh certificates."""
