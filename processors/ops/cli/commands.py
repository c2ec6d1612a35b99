"""Every command that can be typed: its sentence, the function that carries it out, and how it is typed.

In the order of `balance --help`. A function's module is imported once its command is typed, so that help needs no
driver and a payment only what it uses; ``main`` puts the words together.
"""

from __future__ import annotations

from processors.ops.cli.command_entries import Command, Group
from processors.ops.cli.command_entries import command as _command


def _run_of_a_shard(place: str) -> dict[str, Command]:
    """Return the group of a process that each shard has one of; ``place`` ends with its kind."""
    kind = place.rpartition("_")[2]
    return {"run": _command(place, f"Run a shard's {kind} until SIGTERM or Ctrl-C.", f"balance {kind} run --shard s1")}


_HOLD = "0198c0de-6800-7000-8000-00000000000a"
_PAYMENT = "0198c0de-6800-7000-8000-00000000000b"

_MONEY: dict[str, Command | Group] = {
    "pay": _command(
        "payments:pay",
        "Check and take a payment, on every level of the partner's path.",
        "balance pay acme:vn 12.50 USD",
        'balance pay acme:vn 12.50 USD --metadata \'{"order": "order-1"}\' --json',
    ),
    "hold": _command(
        "payments:hold",
        "Check and reserve an amount, to be captured, voided, or freed when it expires.",
        "balance hold acme:vn 20.00 USD --expires-in 15m",
    ),
    "capture": _command(
        "payments:capture",
        "Take all or part of a hold, and free the rest unless it is kept.",
        f"balance capture acme:vn {_HOLD} 5.00 USD",
        f"balance capture acme:vn {_HOLD} USD",
    ),
    "void": _command("payments:void", "Free what a hold reserves.", f"balance void acme:vn {_HOLD} USD"),
    "refund": _command(
        "refunding:refund",
        "Give back part or all of a payment or a capture; ID is that command's.",
        f"balance refund acme:vn {_PAYMENT} 2.50 USD",
    ),
    "topup": _command(
        "payments:topup",
        "Put money into one account: a partner's deposit.",
        "balance topup acme 100.00 USD",
    ),
    "collect": _command(
        "payments:collect",
        "Credit money that was collected for a partner.",
        "balance collect acme 75.00 USD",
    ),
    "transfer": _command(
        "transferring:transfer",
        "Move money between two accounts, of one partner or of two.",
        "balance transfer acme acme:vn 40.00 USD",
    ),
    "adjust": _command(
        "payments:adjust",
        "Correct one account by hand; signed with the operators' key.",
        "balance adjust acme CREDIT 0.50 USD --because 'counted again on 2026-11-23'",
    ),
    "send": _command(
        "sending:send",
        "Send a file of commands and print each result as a JSON line, in the order of the file.",
        "balance send commands.jsonl",
        "make-commands | balance send -",
    ),
}

_ACCOUNTS: dict[str, Command | Group] = {
    "balance": _command(
        "accounts:balance",
        "Read balances in order with the writes: after everything that was sent before.",
        "balance balance acme:vn USD",
    ),
    "account": Group(
        "Open, change, close and look at accounts.",
        {
            "open": _command(
                "accounts:open_account",
                "Open an account.",
                "balance account open acme:vn USD",
                "balance account open acme USD --limit 500.00 --policy CHECKED",
            ),
            "update": _command(
                "accounts:update",
                "Change an account's limit, policy, status or metadata; what is not named stays.",
                "balance account update acme USD --limit 500.00",
                "balance account update acme:vn USD --status ACTIVE",
            ),
            "freeze": _command(
                "accounts:freeze",
                "Refuse new debits and holds; `account update --status ACTIVE` undoes it.",
                "balance account freeze acme:vn USD",
            ),
            "close": _command(
                "accounts:close",
                "Close an account that holds nothing, for ever; nothing below it can pay any more.",
                "balance account close acme:vn:pop-up USD",
            ),
            "show": _command(
                "looking:show_account",
                "Show the accounts of an address, each currency's; exit status 1 if there is none.",
                "balance account show acme:vn",
            ),
            "list": _command(
                "looking:list_accounts",
                "List accounts in the order of their addresses.",
                "balance account list",
                "balance account list acme",
            ),
        },
    ),
}

_LOOKING: dict[str, Command | Group] = {
    "tx": Group(
        "Look a transaction up, and help one on.",
        {
            "get": _command(
                "history:get_transaction",
                "Show every step of a transaction, from the store that has it by its age.",
                f"balance tx get {_PAYMENT}",
            ),
            "send-again": _command(
                "legs:send_again",
                "Send the leg again that an open transfer waits for, after it became a dead letter. Safe to run again.",
                f"balance tx send-again {_PAYMENT}",
            ),
        },
    ),
    "statement": _command(
        "statements:statement",
        "Print an account's opening balance, its changes and its closing balance; exit 1 if it never changed.",
        "balance statement acme:vn USD --last 20",
        "balance statement acme USD --from 2026-03-01 --until 2026-04-01 --csv",
    ),
    "results": _command(
        "results:results",
        "Print the latest results of each results partition, each once; with --follow what comes, too.",
        "balance results --follow",
        "balance results --root acme --status REJECTED -n 5",
    ),
    "dead-letters": Group(
        "Records that were no commands.",
        {
            "list": _command("results:list_dead_letters", "List the latest dead letters.", "balance dead-letters list"),
            "show": _command(
                "results:show_dead_letter",
                "Show one dead letter whole: why, where it came from, how its payload began.",
                "balance dead-letters show 0/17",
            ),
        },
    ),
}

_PROCESSES: dict[str, Command | Group] = {
    "demo": _command(
        "devtools.cli.demo:run_demo",
        "Play a sample business day on real servers, and prove it; exit status 0 only if everything is as it must be.",
        "balance demo --seed 7",
    ),
    "up": _command(
        "starting:up",
        "Run every process of the service under one supervisor, until Ctrl-C or SIGTERM; does what `init` does first.",
        "balance up",
        "balance up --detach --workers 2",
    ),
    "down": _command(
        "starting:down",
        "Stop what `up` started, in the background or in another terminal; the servers stay.",
        "balance down",
    ),
    "router": Group(
        "Forwards commands to the shards' lanes.",
        {"run": _command("starting:run_router", "Run a router until SIGTERM or Ctrl-C.", "balance router run")},
    ),
    "shard": Group(
        "Add, list and look at shards; decide one shard's commands.",
        {
            "add": _command(
                "sharding:add",
                "Make a further shard (database, schema, topic, lanes, rules) and write it into the directory. Safe to "
                "run again.",
                "balance shard add s2",
                "balance shard add s3 --dsn mysql://10.0.0.3/balance_s3 --lanes 16",
            ),
            "list": _command(
                "sharding:list_shards",
                "List the shards of the directory and of the settings; exit status 3 where one does not take part.",
                "balance shard list",
            ),
            "show": _command(
                "sharding:show",
                "Show a shard: where it is, its topic, where its lanes stand; exit status 3 where it does not take "
                "part.",
                "balance shard show s1",
            ),
            "adopt": _command(
                "sharding:adopt_shard",
                "Put a rebuilt database in the place of a shard's own, once it is proven to be what was published.",
                "balance shard adopt s1 --dsn mysql://db-2/balance_s1",
                "balance shard adopt s1 --dsn mysql://db-2/balance_s1 --yes",
            ),
            "run": _command(
                "starting:run_shard", "Run a shard's worker until SIGTERM or Ctrl-C.", "balance shard run --shard s1"
            ),
        },
    ),
    "expirer": Group(
        "Ends the holds of one shard whose time has come, and keeps idle lanes' time moving.",
        _run_of_a_shard("starting:run_expirer"),
    ),
    "sink": Group(
        "Copies results to Cassandra.",
        {"run": _command("starting:run_sink", "Run a sink until SIGTERM or Ctrl-C.", "balance sink run")},
    ),
    "recaller": Group(
        "Fetches the originals of late refunds from Cassandra.",
        {"run": _command("starting:run_recaller", "Run a recaller until SIGTERM or Ctrl-C.", "balance recaller run")},
    ),
    "remover": Group(
        "Removes from one shard what is proven to be in Cassandra.",
        _run_of_a_shard("starting:run_remover"),
    ),
    "auditor": Group(
        "Proves one shard's books all the time, at a bounded cost.",
        _run_of_a_shard("starting:run_auditor"),
    ),
    "api": Group(
        "Answers people and programs over HTTP; changes nothing.",
        {
            "run": _command("reading:run_api", "Run the read API until SIGTERM or Ctrl-C.", "balance api run"),
            "token": _command(
                "reading:make_api_token",
                "Make a token of the read API: print it once, and what to write into the settings.",
                "balance api token acme-books --below acme",
            ),
        },
    ),
    "stack": Group(
        "Kafka, MySQL and Cassandra of this checkout.",
        {
            "up": _command(
                "devtools.cli.stack:up",
                "Start what does not run, and wait until it answers; the first time fetches the servers.",
                "balance stack up",
            ),
            "down": _command(
                "devtools.cli.stack:down",
                "Stop the servers, the secured ones too; their data stays.",
                "balance stack down",
            ),
            "status": _command(
                "devtools.cli.stack:status",
                "Show each server; exit status 3 unless all are ready.",
                "balance stack status",
            ),
            "logs": _command(
                "devtools.cli.stack:logs", "Print the end of a server's log.", "balance stack logs kafka -n 100"
            ),
        },
    ),
}

_OPERATING: dict[str, Command | Group] = {
    "status": _command(
        "operating:status",
        "Show the processes here, what waits for router, lanes and sink, what MySQL holds and what went wrong.",
        "balance status",
    ),
    "init": _command(
        "setting_up:init",
        "Make keys, topics, directory, databases and schemas, as far as they are missing. Safe to run twice.",
        "balance init",
    ),
    "migrate": _command(
        "setting_up:migrate",
        "Bring databases and archive to this release's schema. Safe to run twice.",
        "balance migrate",
    ),
    "partner": Group(
        "Look at where partners live, and move them from shard to shard.",
        {
            "show": _command(
                "partners:show",
                "Show which shard owns a partner, since when, and which ones did before.",
                "balance partner show acme",
                "balance partner show bucket:17 --json",
            ),
            "list": _command(
                "partners:list_placed",
                "List the partners that were placed by hand, each with its shard; all others go with their buckets.",
                "balance partner list",
                "balance partner list --shard s2 --buckets",
            ),
            "move": _command(
                "moving:move",
                "Move a partner, or a bucket of partners, to another shard while they are paid. Safe to run again.",
                "balance partner move acme --to s2 --watch",
                "balance partner move acme --back",
                "balance partner move bucket:17 --to s2 --dry-run",
            ),
            "place": _command(
                "moving:place",
                "Say on which shard a partner belongs who has no account yet.",
                "balance partner place acme --shard s2",
            ),
        },
    ),
    "bucket": Group(
        "Look at buckets of partners, and share them out among shards.",
        {
            "assign": _command(
                "assigning:assign",
                "Share all buckets of partners out among shards while they are paid, with the fewest moves. Safe to "
                "run again.",
                "balance bucket assign --share s1=0.5,s2=0.5 --dry-run",
                "balance bucket assign --share s1=1/3,s2=1/3,s3=1/3 --yes",
            ),
            "list": _command(
                "assigning:list_buckets",
                "List how many of the 65,536 buckets each shard owns.",
                "balance bucket list",
            ),
            "show": _command(
                "assigning:show",
                "Show which shard owns a bucket, since when, and which ones did before.",
                "balance bucket show 17",
            ),
        },
    ),
    "directory": Group(
        "The directory of shards, keys and moves, which routers go by.",
        {
            "rebuild": _command(
                "directory_rebuilding:rebuild",
                "Make a lost directory again, from what the shards and Kafka still know. Safe to run again.",
                "balance directory rebuild",
                "balance directory rebuild --yes",
            )
        },
    ),
    "lane": Group(
        "Look at lanes, and start stopped ones again.",
        {
            "show": _command(
                "operating:show_lanes", "Show where lanes stand, and why stopped ones stopped.", "balance lane show"
            ),
            "release": _command(
                "releasing:release",
                "Tell a stopped lane the true time of records, after the broker's clock, or the topic, was set right.",
                "balance lane release 3 1041 2026-11-23T09:30:00Z",
                "balance lane release 3 --all 2026-11-23T09:30:00Z",
            ),
            "restart": _command(
                "operating:restart",
                "Let a stopped lane go on, after what stopped it was mended.",
                "balance lane restart 3",
            ),
        },
    ),
    "rules": Group(
        "What decides: window, skew, periods, registry ids.",
        {
            "show": _command(
                "ruling:show_rules", "Show the rules in force in each lane of each shard.", "balance rules show"
            ),
            "set": _command(
                "ruling:set_rules",
                "Change the rules: a signed record into every lane of every shard; what is not named stays. Safe to "
                "run again.",
                "balance rules set --longest-hold 30d",
                "balance rules set --registry-id pay=12",
            ),
            "raise": _command(
                "ruling:raise_release",
                "Let every shard decide as this release does: signed records into every lane. Safe to run again.",
                "balance rules raise",
            ),
        },
    ),
    "key": Group(
        "Keys that sign what operators and the service itself send.",
        {
            "list": _command(
                "signing:list_keys",
                "Show every key of the keys file and of the log: which signs, whose signatures count, and what is "
                "missing.",
                "balance key list",
            ),
            "add": _command(
                "signing:add_key",
                "Add a key to the file, under the name and a part of its fingerprint: two machines never give one id "
                "twice.",
                "balance key add k2",
            ),
            "announce": _command(
                "signing:announce_keys",
                "Tell every lane the file's keys, id and fingerprint: from there on their signatures count. Safe to "
                "run again.",
                "balance key announce",
            ),
            "retire": _command(
                "signing:retire_key",
                "Let a key sign no more, and the newest one that counts in every lane sign instead.",
                "balance key retire k1",
            ),
            "end": _command(
                "signing:end_key",
                "End a key in every lane: what it signs from there on is a dead letter, for good. Safe to run again.",
                "balance key end k1",
            ),
        },
    ),
    "verify": _command(
        "proving:verify",
        "Prove that nothing is missing: double entry, balances, holds, sequences, results, archive; exit 1 if not.",
        "balance verify",
    ),
    "archive": Group(
        "The archive in Cassandra.",
        {
            "repair": _command(
                "proving:repair",
                "Compare MySQL's journal with the archive, as far as the sink is, and bring back what is lost; exit 1 "
                "if not all.",
                "balance archive repair --write",
            ),
            "fill": _command(
                "filling:fill",
                "Archive from MySQL what has left the results topic before the sink had it; exit 1 if not all.",
                "balance archive fill --write",
            ),
        },
    ),
    "snapshot": Group(
        "Copies of a shard in a folder, from which it is rebuilt.",
        {
            "create": _command(
                "snapshots:create",
                "Copy every table that a decision reads, as of one moment, while the shard works.",
                "balance snapshot create --folder /backup/balance --keep 7",
            ),
            "list": _command(
                "snapshots:list_snapshots",
                "List the snapshots of a shard, the newest first; exit status 1 if there is none that is whole.",
                "balance snapshot list --folder /backup/balance",
            ),
            "verify": _command(
                "snapshots:verify",
                "Prove that every snapshot of a shard has the bytes, checksums and rows that it had; exit status 1 if "
                "not.",
                "balance snapshot verify --folder /backup/balance",
            ),
        },
    ),
    "replay": Group(
        "Decide a log again, and compare; or have its results once more, for a consumer or for the archive.",
        {
            "shard": _command(
                "replaying:replay",
                "Decide a shard's topic again into an empty database, publish nothing, and compare; exit status 1 if "
                "they differ.",
                "balance replay shard s1 --into mysql://db-2/then --to 2026-11-23T09:30:00Z",
                "balance replay shard s1 --into mysql://db-2/copy --snapshots /backup/balance",
            ),
            "results": _command(
                "republishing:results",
                "Copy results to a topic of a consumer who lost his state; exit status 1 if there is none.",
                "balance replay results --from 2026-11-23T00:10:00Z --to-topic acme.rebuild",
            ),
            "archive": _command(
                "rearchiving:archive",
                "Compare the results topic with the archive, as far as the sink is; bring back what is lost; exit 1 if "
                "not all.",
                "balance replay archive --write",
            ),
        },
    ),
}

# By the headings of `balance --help`.
COMMANDS: dict[str, dict[str, Command | Group]] = {
    "Money": _MONEY,
    "Accounts": _ACCOUNTS,
    "Looking": _LOOKING,
    "Processes": _PROCESSES,
    "Operating": _OPERATING,
}
