"""Objects with known truth, and the k-space a scanner would measure of them."""
