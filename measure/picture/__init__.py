"""The chain of trust of an image: which bytes land in which register, as a table and as a picture.

`chain` says it, from measurements.json alone; `table` and `svg` show it.
"""
