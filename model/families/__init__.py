"""Model families: how each is asked, and how its answers are read.  One file each."""
