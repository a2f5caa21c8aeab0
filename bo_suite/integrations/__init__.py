"""Translators between bo_suite and other libraries, each imported by whoever needs it."""
