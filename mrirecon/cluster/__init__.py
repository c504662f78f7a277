"""Many processes: started here or by a scheduler, joined into one group; and jobs of SLURM. No torch at import."""
