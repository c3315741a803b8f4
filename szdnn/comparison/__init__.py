"""Methods side by side on one checkpoint: `szdnn compare`.

`run` measures, `rows` holds what was measured, `bound` is the least that any method could need, `table` and `page`
show it.
"""
