"""Make, check and announce a training before its first step."""
