-- Run once by the MySQL image, after it has made the user. The rights are those of the native stack's user:
-- databases whose names begin with balance, and reading transactions' ages (A7).
GRANT ALL ON `balance%`.* TO 'balance'@'%';
GRANT PROCESS ON *.* TO 'balance'@'%';
GRANT SELECT ON performance_schema.* TO 'balance'@'%';
