"""What a checkout has for those who change the service or try it: servers, a sample day. Never installed.

``stack`` runs Kafka, MySQL and Cassandra natively; ``sample_day`` plans a business day and ``playing`` plays it;
``cli`` is what is typed for them (``balance stack``, ``balance demo``); ``mutate_ledger`` tries the ledger's tests.
"""
