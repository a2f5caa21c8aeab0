"""The record of trials, and the files that keep it."""
