"""Pages of one HTML file: of a run and of a study."""
