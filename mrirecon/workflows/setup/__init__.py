"""What a training is made of, checked and said before its first step."""
