"""Semantic segmentation: a decision for each pixel, an exit for each tile of the image.

The first stage of a cascade sees the whole image. Each tile of a grid is then scored by itself, and
the tiles that go on are seen by the next models, with some context around them. A model that sees
tiles is a model of its own in the pool: the same weights at another size, at another cost.
"""
