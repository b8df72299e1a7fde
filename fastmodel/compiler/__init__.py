"""A small compiler: restricted Python on 64-bit integers, compiled to native code or run as it is.

`primitives` is the vocabulary, `program` collects the functions of a text and what they mention, `expressions`,
`llvm` and `build` make native code of them, `plain` runs the same text without a compiler.
"""
