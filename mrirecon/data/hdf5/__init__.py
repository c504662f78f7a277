"""HDF5 files from strangers: opened, described and checked without harm, or refused in one line."""
