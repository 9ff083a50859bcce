"""What the probes cover, repeat and share, from the partitions that `rhodb run landscape` stored."""
