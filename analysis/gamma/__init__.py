"""The critical margin γ*: intervals, amplification, sensitivity, phase diagram."""
