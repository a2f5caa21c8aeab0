"""Inducing variables of sparse processes: points, and features of the whole function."""
