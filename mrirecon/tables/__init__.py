"""What there is to choose from: one table for each kind of thing, one entry for each thing.

A table is a plain `dict` of names to entries, in the order they are listed in. An entry says in one line what the thing
is, which options it takes and where its builder stands (`"package.module:name"`): so help, configuration and studies
read the tables without importing torch, and one entry makes a thing available everywhere.
"""
