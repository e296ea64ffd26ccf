"""Other tools on the same covers with the same weights, each as its own documentation does it.

Every script is run as ``PYTHON -P bench/peers/NAME.py COVERS WEIGHTS OUT``, by the Python of an environment
of its own where it has requirements (``make bench-peers``). It writes ``OUT/vectors.npy``: ``[covers, dims]``
in the order of the files' names.
"""
