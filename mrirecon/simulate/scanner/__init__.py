"""The scanner: slices through an object, its coils, phase and noise, and the k-space it stores."""
