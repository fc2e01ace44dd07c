"""Model disks in a worker: a root program mounts what the manifest names, checked by dm-verity."""
