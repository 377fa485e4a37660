"""Report: rows of figures, tables, the figure of accuracy against cost, and the page of it all."""

from committee.report.figure import figure_svg, front_figure, save_figure
from committee.report.page import check_page_ending, page, page_of
from committee.report.reliability import check_figure_ending, reliability_figure, write_figure
from committee.report.rows import Row, ensemble_rows, front_rows, row_of, summary
from committee.report.section import Cell, PageTable, Section
from committee.report.tables import front_csv, human_cost, percent, rich_table

__all__ = [
    "Cell",
    "PageTable",
    "Row",
    "Section",
    "check_figure_ending",
    "check_page_ending",
    "ensemble_rows",
    "figure_svg",
    "front_csv",
    "front_figure",
    "front_rows",
    "human_cost",
    "page",
    "page_of",
    "percent",
    "reliability_figure",
    "rich_table",
    "row_of",
    "save_figure",
    "summary",
    "write_figure",
]
