"""What does the runs of a study: the command, its workers, a trial beforehand, the state of it all."""
