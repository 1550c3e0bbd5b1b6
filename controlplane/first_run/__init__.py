"""From an empty folder to a system that answers, in steps that do nothing when done before.

First everything that could stop us is looked at (`obstacles`), changing nothing; then what is
missing is made (`steps`), each step in one piece, so that an interrupted start goes on.
"""
