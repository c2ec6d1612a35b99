#!/usr/bin/env bash
# Kafka for Go: neither the default partitioners by key of sarama 1.61.1 and kafka-go 0.4.51, nor those that both call
# "reference" hash, put a key into the partition that Java's producer puts it into. They agree as often as chance does.
#
# A good guess was wrong: that "reference" means Kafka's own, or that a key goes to the same partition whatever the client.
# Both hash by FNV-1a; "reference" stands for how they take the hash's sign away. Java's default is murmur2, which is
# sarama's NewMurmur2Partitioner and kafka-go's Murmur2Balancer; these two agree, and with Java's own published values. A
# topic that gets one key's records from producers of both kinds has them in two partitions, each in an order of its own.
#
# Exit status 0: it is still so. 1: it changed; the difference is shown.
set -euo pipefail

folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"

cat > go.mod <<'GOMOD'
module finding

go 1.24

require (
	github.com/IBM/sarama v1.61.1
	github.com/segmentio/kafka-go v0.4.51
)
GOMOD

cat > main.go <<'GO'
package main

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
)

const partitions = 8

func bySarama(constructor sarama.PartitionerConstructor) func(string) int {
	partitioner := constructor("topic")
	return func(key string) int {
		partition, err := partitioner.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, partitions)
		if err != nil {
			panic(err)
		}
		return int(partition)
	}
}

func byKafkaGo(balancer kafka.Balancer) func(string) int {
	numbers := make([]int, partitions)
	for number := range numbers {
		numbers[number] = number
	}
	return func(key string) int { return balancer.Balance(kafka.Message{Key: []byte(key)}, numbers...) }
}

func main() {
	java := byKafkaGo(kafka.Murmur2Balancer{})
	// Of Kafka's own tests: murmur2("21") is -973932308, murmur2("foobar") is -790332482.
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482} {
		if java(key) != int(hash&0x7fffffff)%partitions {
			panic("murmur2 is not Java's: " + key)
		}
	}
	for _, each := range []struct {
		name  string
		place func(string) int
	}{
		{"sarama NewMurmur2Partitioner", bySarama(sarama.NewMurmur2Partitioner)},
		{"sarama NewHashPartitioner (default)", bySarama(sarama.NewHashPartitioner)},
		{"sarama NewReferenceHashPartitioner", bySarama(sarama.NewReferenceHashPartitioner)},
		{"kafka-go Hash", byKafkaGo(&kafka.Hash{})},
		{"kafka-go ReferenceHash", byKafkaGo(&kafka.ReferenceHash{})},
		{"kafka-go CRC32Balancer", byKafkaGo(kafka.CRC32Balancer{})},
	} {
		same := 0
		for number := 0; number < 1000; number++ {
			key := fmt.Sprintf("partner-%d", number)
			if each.place(key) == java(key) {
				same++
			}
		}
		fmt.Printf("%s: %d of 1000 keys as Java\n", each.name, same)
	}
}
GO

cat > seen <<'SEEN'
sarama NewMurmur2Partitioner: 1000 of 1000 keys as Java
sarama NewHashPartitioner (default): 126 of 1000 keys as Java
sarama NewReferenceHashPartitioner: 122 of 1000 keys as Java
kafka-go Hash: 126 of 1000 keys as Java
kafka-go ReferenceHash: 122 of 1000 keys as Java
kafka-go CRC32Balancer: 135 of 1000 keys as Java
SEEN

GOFLAGS=-mod=mod GOPATH="$folder/go" go run . > now
cat now
diff seen now
