"""The doctor on DynamoDB and S3: compares every item with what depends on it, and repairs what is safe.

`views.py` has what is looked at, `contents.py` reads items that may hold anything. `records.py`, `claims.py` and
`rows.py` judge, and are pure: they see a View and answer with Diagnoses. `tables.py` reads and writes, `examining.py`
does all of it for one item, and `steps.py` goes through the tables. `registry/doctor.py` has the vocabulary.

No finding is a false alarm, though others write meanwhile: what is compared was read in one transaction, and every
operation of the registry leaves all of it right, since it is one transaction too. Nobody repairs what has changed: each
repair is one transaction, on the condition that the items which were compared are still as they were seen.
"""
