"""The exception of this package."""


class TernaryFileError(ValueError):
    """A packed file cannot be read, or what it holds cannot be used here.

    Raised for every way in which a file can be bad: truncated, damaged,
    written by another version or program, with metadata that contradict its
    tensors, or made for another model. The message is one sentence with the
    file's name.
    """
