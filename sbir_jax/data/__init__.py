"""From a prepared dataset to batches: read, sample, feed, augment."""
