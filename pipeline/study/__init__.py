"""Studies: training of one arrival under many settings, to find which forgets least and learns most."""
