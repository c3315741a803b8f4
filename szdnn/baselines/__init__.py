"""The published methods of making networks smaller, behind one interface (`base`), and szdnn beside them.

Every module in this folder registers its methods when it is imported; `base.methods()` imports them all. `szdnn
compare` runs them on one checkpoint, with one task, at one budget.
"""
