"""One plain function per job: what the command line and a notebook both call."""
