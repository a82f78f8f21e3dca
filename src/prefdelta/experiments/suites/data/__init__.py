"""A suite's tasks as data: readers of public data sets, and splits that share nothing."""
