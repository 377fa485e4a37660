"""Semantic segmentation: a decision for each pixel, an exit for each tile of the image.

The first stage of a cascade sees the whole image. Each tile of a grid is then scored by itself, and
the next models see the tiles that do not exit, with some context around them. A model that sees
tiles is a separate model in the pool: the same weights at another size and cost.
"""
