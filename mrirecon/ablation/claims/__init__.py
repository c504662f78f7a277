"""The claims of the lecture, and what the cells of a study say of each."""
