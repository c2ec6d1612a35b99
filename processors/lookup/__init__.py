"""What people ask, of every shard's database and the archive: accounts, statements, transactions. No lane is asked."""
