"""Where samples come from: folders and tables of files, arrays, saved data sets, plug-ins."""
