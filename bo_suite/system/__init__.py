"""Threads, processes and signals of the machine; imports nothing heavy."""
