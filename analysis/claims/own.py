"""What this warehouse's own runs say (stub)."""
