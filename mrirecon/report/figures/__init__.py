"""Pictures: of slices, of a training, of a study. Plain results in, PNG files out."""
