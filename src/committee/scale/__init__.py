"""The same jobs on Ray: many machines decide, and the rows are those of one."""
