"""Reports on what a store holds, for the person who must say whether it can be used."""
