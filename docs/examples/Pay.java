// Sends one PAY and waits for its result, with nothing but Kafka's own client: what any other language has to do.
//
//   java -cp "$(echo ~/.cache/balance/kafka-4.2.1-*)/*" docs/examples/Pay.java 127.0.0.1:19092 acme:vn USD 1250
//
// With an Avro library the two encoders below are one call: BinaryMessageEncoder writes the same bytes.

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

class Pay {
    // C3 01 and the fingerprint of schemas/avro/pay.v1.avsc: docs/wire.md lists them.
    static final byte[] PAY_V1 = HexFormat.of().parseHex("c30111d9ea9b31bca9eb");
    // Of schemas/avro/result.v1.avsc, v2 and v3: the fields that are read here come first in each, in the same order.
    static final List<String> RESULTS =
        List.of("c301febf1be5bb8ad479", "c301ec1872c47277145f", "c301b3e293da7bea4d8d");
    static final List<String> STATUSES =
        List.of("ACCEPTED", "OPEN", "COMPLETED", "RETURNED", "REJECTED", "UNKNOWN", "UNLISTED");

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0], address = arguments[1], currency = arguments[2];
        long amountMinor = Long.parseLong(arguments[3]);
        String prefix = arguments.length > 4 ? arguments[4] : "";
        byte[] root = address.split(":")[0].getBytes(StandardCharsets.UTF_8);
        byte[] commandId = uuid7(); // made once for each wish; a repetition uses it again

        Map<String, Object> reading = Map.of(
            "bootstrap.servers", servers,
            "isolation.level", "read_committed", // results of aborted transactions come again
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class);
        Map<String, Object> writing = Map.of(
            "bootstrap.servers", servers,
            "enable.idempotence", true,
            "acks", "all", // Java's default partitioner is the right one: murmur2 of the key
            "key.serializer", ByteArraySerializer.class,
            "value.serializer", ByteArraySerializer.class);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(reading);
             var producer = new KafkaProducer<byte[], byte[]>(writing)) {
            String results = prefix + "balance.results";
            List<TopicPartition> partitions = consumer.partitionsFor(results).stream()
                .map(each -> new TopicPartition(results, each.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToEnd(partitions);
            partitions.forEach(consumer::position); // before sending: no result can be missed

            byte[] payload = pay(commandId, address, currency, amountMinor);
            producer.send(new ProducerRecord<>(prefix + "balance.commands", root, payload)).get();
            System.out.println(result(consumer, commandId));
        }
    }

    static String result(KafkaConsumer<byte[], byte[]> consumer, byte[] commandId) {
        Map<String, Position> seen = new HashMap<>(); // the largest position by partition, incarnation and lane
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (System.nanoTime() < deadline) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                Reader reader = new Reader(record.value());
                String lane = record.partition() + "/" + HexFormat.of().formatHex(reader.fixed(16));
                reader.text(); // shard
                lane += "/" + reader.number();
                Position position = new Position(reader.number(), reader.number());
                Position last = seen.get(lane);
                if (last != null && position.compareTo(last) <= 0) {
                    continue; // published again after a crash: the same result
                }
                seen.put(lane, position);
                for (int skipped = 0; skipped < 4; skipped++) {
                    reader.number(); // lane time, version, rules version, type
                }
                String status = STATUSES.get((int) reader.number());
                long reason = reader.number();
                reader.text(); // root
                if (Arrays.equals(reader.fixed(16), commandId)) {
                    return status + (reason == 0 ? "" : " with reason " + reason + " of " + reader.schema);
                }
            }
        }
        return "no answer in time: send the same command again, with the same id";
    }

    record Position(long offset, long index) implements Comparable<Position> {
        public int compareTo(Position other) {
            return offset != other.offset ? Long.compare(offset, other.offset) : Long.compare(index, other.index);
        }
    }

    /** RFC 9562: 48 bits of milliseconds, version 7, 74 random bits. */
    static byte[] uuid7() {
        byte[] id = new byte[16];
        new SecureRandom().nextBytes(id);
        byte[] time = ByteBuffer.allocate(8).putLong(System.currentTimeMillis()).array();
        System.arraycopy(time, 2, id, 0, 6);
        id[6] = (byte) (id[6] & 0x0f | 0x70);
        id[8] = (byte) (id[8] & 0x3f | 0x80);
        return id;
    }

    static byte[] pay(byte[] commandId, String address, String currency, long amountMinor) {
        var out = new ByteArrayOutputStream();
        out.writeBytes(PAY_V1);
        out.writeBytes(commandId); // fixed
        text(out, address);
        text(out, currency);
        number(out, amountMinor);
        number(out, 0); // metadata: no bytes
        return out.toByteArray();
    }

    static void text(ByteArrayOutputStream out, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        number(out, bytes.length);
        out.writeBytes(bytes);
    }

    /** Avro's long: zigzag, then seven bits a byte, the lowest first. */
    static void number(ByteArrayOutputStream out, long value) {
        for (long rest = value << 1 ^ value >> 63; ; rest >>>= 7) {
            if ((rest & ~0x7fL) == 0) {
                out.write((int) rest);
                return;
            }
            out.write((int) (rest & 0x7f | 0x80));
        }
    }

    static class Reader {
        private final ByteBuffer bytes;
        final String schema; // whose enums its numbers are of

        Reader(byte[] payload) {
            bytes = ByteBuffer.wrap(payload);
            String prefix = HexFormat.of().formatHex(fixed(10)); // C3 01 and the fingerprint
            if (!RESULTS.contains(prefix)) {
                throw new IllegalArgumentException("a result of a schema that this program does not know: " + prefix);
            }
            schema = "schemas/avro/result.v" + (RESULTS.indexOf(prefix) + 1) + ".avsc";
        }

        byte[] fixed(int size) {
            byte[] found = new byte[size];
            bytes.get(found);
            return found;
        }

        String text() {
            return new String(fixed((int) number()), StandardCharsets.UTF_8);
        }

        long number() {
            long rest = 0;
            for (int shift = 0; ; shift += 7) {
                byte next = bytes.get();
                rest |= (next & 0x7fL) << shift;
                if (next >= 0) {
                    return rest >>> 1 ^ -(rest & 1);
                }
            }
        }
    }
}
