"""Results as text: the terminal's tables, a comparison, the model card."""
