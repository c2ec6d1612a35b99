#!/usr/bin/env bash
# Avro for Java 1.12.0: GenericDatumWriter turns any java.lang.Number into the long or int that the schema wants, as
# Number.longValue() and intValue() do, without a word: 12.5 and BigDecimal 12.50 become 12, 4,294,967,297 in a field of
# type int becomes 1, BigInteger 2^64 + 1 becomes 1, NaN becomes 0.
#
# A good guess was wrong: that a value of another Java type ends as ClassCastException or AvroTypeException, as a text
# does. GenericData.validate refuses every one of these records, but the writer does not ask it. Serializers that are
# given a GenericRecord write so. Classes generated from the schema are safe, since their setters take long and int.
#
# Who fills a GenericRecord with amounts: put Long, checked with Math.toIntExact or BigDecimal.longValueExact.
#
# Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat > pom.xml <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId>
  <artifactId>finding</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.avro</groupId><artifactId>avro</artifactId><version>1.12.0</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>2.0.13</version></dependency>
  </dependencies>
</project>
XML
mvn --quiet --batch-mode dependency:copy-dependencies -DoutputDirectory=lib >/dev/null

cat > Cut.java <<'JAVA'
import java.io.ByteArrayOutputStream;
import java.math.BigDecimal;
import java.math.BigInteger;
import org.apache.avro.Schema;
import org.apache.avro.SchemaBuilder;
import org.apache.avro.generic.*;
import org.apache.avro.io.*;

public class Cut {
    static final Schema PAY = SchemaBuilder.record("Pay").fields()
            .requiredLong("amount_minor").requiredInt("level").endRecord();

    static void show(Object amount, Object level) {
        GenericRecord record = new GenericData.Record(PAY);
        record.put("amount_minor", amount);
        record.put("level", level);
        String read;
        try {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
            new GenericDatumWriter<GenericRecord>(PAY).write(record, encoder);
            encoder.flush();
            Decoder decoder = DecoderFactory.get().binaryDecoder(out.toByteArray(), null);
            GenericRecord back = new GenericDatumReader<GenericRecord>(PAY).read(null, decoder);
            read = back.get("amount_minor") + " " + back.get("level");
        } catch (Exception error) {
            read = error.getClass().getSimpleName();
        }
        System.out.println(amount + " " + level + " valid=" + GenericData.get().validate(PAY, record) + " read: " + read);
    }

    public static void main(String[] arguments) {
        show(12L, 1);
        show(12.5, 1);
        show(new BigDecimal("12.50"), 1);
        show(12L, 4_294_967_297L);
        show(BigInteger.TWO.pow(64).add(BigInteger.ONE), 1);
        show(Double.NaN, 1);
        show("12", 1);
    }
}
JAVA
javac -cp 'lib/*' Cut.java

cat > seen <<'SEEN'
12 1 valid=true read: 12 1
12.5 1 valid=false read: 12 1
12.50 1 valid=false read: 12 1
12 4294967297 valid=false read: 12 1
18446744073709551617 1 valid=false read: 1 1
NaN 1 valid=false read: 0 1
12 1 valid=false read: ClassCastException
SEEN

java -cp 'lib/*:.' Cut > now
cat now
diff seen now
