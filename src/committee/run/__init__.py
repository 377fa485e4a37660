"""Running a cascade: online, an image at a time; offline, a data set; timed, compared, verified.

A runner opens cascade files, bundles and single ONNX files.
"""
