"""Whole jobs over data sets: targets, Lightning loops, tracking, pictures."""
