"""Other libraries' agents in our environments: one library a file, the only one to import it.

A file that outgrows its length is split in several that begin with the name of the library.
"""
