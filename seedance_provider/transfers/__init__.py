"""The transfer operator."""
