"""Is a vector feature healthy, and what lies beside what in it: ``mmfeat report vectors``."""
