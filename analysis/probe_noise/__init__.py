"""How much of a score's uncertainty comes from the choice of probes."""
