"""Checks of values that users pass, and their text in messages; imports nothing heavy."""
