"""The pages for people: a client of the public API like any other, served by the same process."""
