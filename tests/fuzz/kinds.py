"""The three kinds of cases by name."""

import checkpoint_cases
import hdf5_cases
import yaml_cases

KINDS = {"hdf5": hdf5_cases, "checkpoint": checkpoint_cases, "yaml": yaml_cases}
