"""Frames: where they come from, augmentation, batches, pairing of scans with images, and `prepare`."""
