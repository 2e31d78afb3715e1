"""How HOA, TAG and MTG-Net search: trials and affinities first, then an exact choice of groups."""
