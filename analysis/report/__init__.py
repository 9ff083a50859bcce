"""The report: the notebook of a warehouse, written anew from its rows, every number with its address."""
