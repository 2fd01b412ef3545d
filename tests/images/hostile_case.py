# SPDX-License-Identifier: BSD-3-Clause
"""What is expected of a hostile image, and how cases are listed.

An answer says what each command does. It follows from the format and from
what is safe, never from what the program happens to do:

    REFUSE    nothing opens it; the message says `words`
    MENDABLE  nothing but check opens it, and check reports it
    LOST      nothing opens it, nothing mends it, and check reports it
    TOUCHED   it opens; reading what is bad fails, and check reports it
    STREAM    as TOUCHED, but check cannot know
    OLD_ZERO  reading fails; check does not judge what version 2 may not have
    DAMAGED   it opens and reads as before, but check reports it
    MISCOUNTED  as DAMAGED, but what is written may take the place of data
    UNCOUNTED  as DAMAGED, but it is not written: its counts cannot be had
    LEAKED    as DAMAGED, but check only finds leaks
    ODD       it opens and reads without error, maybe not as before, and check
              reports it: what is bad can not be told from data when reading
    BEYOND    as ODD, but it is not written: the file ends before a table
    CUT       it opens; what is missing reads as zeros, or fails if packed
    IGNORED   nothing is wrong with it
    SEALED    nothing is wrong with it, but it is not written
    NO_IO     info shows it; what it needs is not supported for reading
    BITMAPS   guest data reads as before; bad bitmaps are left out
    LISTING   guest data reads as before; info, which lists it, refuses
    NO_BASE   info shows it; its backing file may not be opened
"""

GOOD, FAILS, EITHER = {0}, {1}, {0, 1}


class Answer:
    """Exit codes: of info, map, reading, check and writing.

    `same`: guest data reads as before, also after a repair; `keeps`: and after
    others have been written.
    """

    def __init__(self, name, info, mapped, read, check, write, same=False,
                 keeps=True):
        self.name = name
        self.info = info
        self.map = mapped
        self.read = read
        self.check = check
        self.write = write
        self.same = same
        self.keeps = same and keeps


REFUSE = Answer("REFUSE", FAILS, FAILS, FAILS, {1}, FAILS)
MENDABLE = Answer("MENDABLE", FAILS, FAILS, FAILS, {1, 2}, FAILS)
LOST = Answer("LOST", FAILS, FAILS, FAILS, {2}, FAILS)
TOUCHED = Answer("TOUCHED", GOOD, EITHER, FAILS, {2}, EITHER)
STREAM = Answer("STREAM", GOOD, GOOD, FAILS, {0}, EITHER)
OLD_ZERO = Answer("OLD_ZERO", GOOD, FAILS, FAILS, {0, 3}, EITHER)
DAMAGED = Answer("DAMAGED", GOOD, GOOD, GOOD, {1, 2}, EITHER, same=True)
MISCOUNTED = Answer("MISCOUNTED", GOOD, GOOD, GOOD, {1, 2}, EITHER, same=True,
                    keeps=False)
UNCOUNTED = Answer("UNCOUNTED", GOOD, GOOD, GOOD, {1, 2}, FAILS, same=True)
LEAKED = Answer("LEAKED", GOOD, GOOD, GOOD, {3}, GOOD, same=True)
ODD = Answer("ODD", GOOD, GOOD, GOOD, {0, 2, 3}, EITHER)
BEYOND = Answer("BEYOND", GOOD, GOOD, GOOD, {2}, FAILS)
CUT = Answer("CUT", GOOD, GOOD, EITHER, {0, 2, 3}, EITHER)
IGNORED = Answer("IGNORED", GOOD, GOOD, GOOD, {0}, GOOD, same=True)
SEALED = Answer("SEALED", GOOD, GOOD, GOOD, {0}, FAILS, same=True)
NO_IO = Answer("NO_IO", GOOD, FAILS, FAILS, {0, 1, 2, 3}, FAILS)
BITMAPS = Answer("BITMAPS", GOOD, GOOD, GOOD, {0, 2, 3}, FAILS, same=True)
LISTING = Answer("LISTING", FAILS, GOOD, GOOD, {0, 1, 2, 3}, EITHER,
                 same=True)
NO_BASE = Answer("NO_BASE", GOOD, FAILS, FAILS, {0}, FAILS)


class Case:
    """One image: `change` makes it out of a valid one that `base` makes."""

    guest = None  # what is read, if it is not what the plain image holds

    def __init__(self, name, answer, change, base, words=""):
        self.name = name
        self.answer = answer
        self.change = change
        self.base = base
        self.words = words

    def build(self):
        image = self.base()
        self.change(image)
        return bytes(image.raw)


class Catalogue:
    """A list of cases over one valid image."""

    def __init__(self, base):
        self.base = base
        self.cases = []

    def case(self, name, answer, change, words=""):
        self.cases.append(Case(name, answer, change, self.base, words))

    def each(self, name, answer, values, change, words=""):
        """One case for each value; `change` takes the image and the value."""
        self.ruled(name, values, lambda value: (answer, words), change)

    def ruled(self, name, values, rule, change):
        """The same; `rule` makes an answer, or answer and words, of a value."""
        for value in values:
            answer = rule(value)
            answer, words = answer if isinstance(answer, tuple) else (answer,
                                                                      "")
            text = f"{value:#x}" if isinstance(value, int) else str(value)
            self.case(f"{name}={text}", answer,
                      lambda image, value=value: change(image, value), words)
