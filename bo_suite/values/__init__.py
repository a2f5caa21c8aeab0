"""What users give, as text for messages and as plain values of Python; imports nothing heavy."""
