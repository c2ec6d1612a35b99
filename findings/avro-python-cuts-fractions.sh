#!/usr/bin/env bash
# fastavro 1.12.0 writes 12.5, Decimal("12.50") and True into a field of type long, as 12, 12 and 1, without a word.
#
# A good guess was wrong: that a value which is no integer is refused where the schema says long. fastavro's own
# `validate` refuses all three, and the reference implementation avro 1.12.0 the first two. But `schemaless_writer` does not ask `validate`, and `strict=True` changes nothing (it is about missing and
# unknown fields); only `writer(..., validator=True)` asks. Confluent's AvroSerializer (confluent-kafka 2.16.1) writes by
# `schemaless_writer`, so a producer that hands it an amount in minor units as a float or a Decimal publishes another
# amount. Text is refused (TypeError), and so is what has more than 64 bits (OverflowError).
#
# Who writes amounts through these: check `type(value) is int` before encoding.
#
# Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    fastavro==1.12.0 avro==1.12.0 'confluent-kafka[avro,schemaregistry]==2.16.1'

cat > "$folder/cut.py" <<'PYTHON'
import io
import json
from decimal import Decimal

import avro.errors
import avro.io
import avro.schema
import fastavro
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

PAY = {"type": "record", "name": "Pay", "fields": [{"name": "amount_minor", "type": "long"}]}
FAST = fastavro.parse_schema(PAY)
REGISTRY = SchemaRegistryClient.new_client({"url": "mock://registry"})
WRITE, READ = AvroSerializer(REGISTRY, json.dumps(PAY)), AvroDeserializer(REGISTRY)
CONTEXT = SerializationContext("pay", MessageField.VALUE)


def by_fastavro(record):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, FAST, record, strict=True)
    out.seek(0)
    return fastavro.schemaless_reader(out, FAST)


def by_reference(record):
    out = io.BytesIO()
    avro.io.DatumWriter(avro.schema.parse(json.dumps(PAY))).write(record, avro.io.BinaryEncoder(out))
    return record


def by_confluent(record):
    return READ(WRITE(record, CONTEXT), CONTEXT)


for value in (12, 12.5, Decimal("12.50"), 19.99 * 100, True, "12", 2**63):
    found = [f"valid={fastavro.validate({'amount_minor': value}, FAST, raise_errors=False)}"]
    for writer in (by_fastavro, by_confluent, by_reference):
        try:
            found.append(f"{writer.__name__}={writer({'amount_minor': value})['amount_minor']!r}")
        except Exception as error:
            found.append(f"{writer.__name__}={type(error).__name__}")
    print(repr(value), *found)
PYTHON

cat > "$folder/seen" <<'SEEN'
12 valid=True by_fastavro=12 by_confluent=12 by_reference=12
12.5 valid=False by_fastavro=12 by_confluent=12 by_reference=AvroTypeException
Decimal('12.50') valid=False by_fastavro=12 by_confluent=12 by_reference=AvroTypeException
1998.9999999999998 valid=False by_fastavro=1998 by_confluent=1998 by_reference=AvroTypeException
True valid=False by_fastavro=1 by_confluent=1 by_reference=True
'12' valid=False by_fastavro=TypeError by_confluent=TypeError by_reference=AvroTypeException
9223372036854775808 valid=False by_fastavro=OverflowError by_confluent=OverflowError by_reference=AvroTypeException
SEEN

"$folder/venv/bin/python" -W ignore "$folder/cut.py" > "$folder/now"
cat "$folder/now"
diff "$folder/seen" "$folder/now"
