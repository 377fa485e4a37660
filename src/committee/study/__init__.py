"""Study: every analysis of Wang et al. (2022), for any pool.

One file an analysis, named for what it shows: one function that returns data, one that draws.
"""
