"""The loops that score images, and what looks at the images meanwhile."""
