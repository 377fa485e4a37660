"""Report: rows of figures, tables, the figure of accuracy against cost, and the page of it all."""
