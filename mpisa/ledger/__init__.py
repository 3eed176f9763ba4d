"""What ordered bytes mean: the rules by which transactions change the state. Pure: views and times are arguments.

Formats live in mpisa.primitives; import the modules here, not this package.
"""
