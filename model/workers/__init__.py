"""Several workers as one backend: on the devices of a machine, or on a Ray cluster."""
