"""send.py CLIENT URL COUNT: sends numbered records with a client that knows nothing of Lodge.

Record i has the message "record i of CLIENT", the number n = i, one of three levels, and a time of its
own where the client can state one.
"""
import datetime
import logging
import sys
import urllib.parse

LEVELS = ["info", "warning", "error"]
START_S = 1_772_366_400


def message(client, i):
    return f"record {i} of {client}"


def elasticsearch(url, count):
    from elasticsearch import Elasticsearch, helpers

    client = Elasticsearch(url + "/elasticsearch")
    assert client.info()["tagline"] == "You Know, for Search"

    def documents():
        for i in range(count):
            time = datetime.datetime.fromtimestamp(START_S + i, datetime.timezone.utc)
            yield {
                "_op_type": "create",
                "_index": "logs-app-default",
                "@timestamp": time.isoformat(),
                "message": message("elasticsearch", i),
                "log": {"level": LEVELS[i % 3].upper()},
                "n": i,
                "host": {"name": f"host-{i % 5}"},
            }

    stored, errors = helpers.bulk(client, documents(), chunk_size=1000)
    assert (stored, errors) == (count, []), (stored, errors[:3])


def opentelemetry(url, count):
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    emit("opentelemetry", OTLPLogExporter(endpoint=url + "/v1/logs"), count)


def opentelemetry_grpc(url, count):
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(endpoint=url, insecure=True, compression=Compression.Gzip)
    emit("opentelemetry_grpc", exporter, count)


def emit(client, exporter, count):
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    severities = [SeverityNumber.INFO, SeverityNumber.WARN, SeverityNumber.ERROR]
    provider = LoggerProvider(resource=Resource.create({"service.name": "shop", "rack": "r1"}))
    processor = BatchLogRecordProcessor(exporter, max_queue_size=count, max_export_batch_size=1000)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("sender")
    for i in range(count):
        logger.emit(
            LogRecord(
                timestamp=(START_S + i) * 1_000_000_000,
                severity_text=LEVELS[i % 3],
                severity_number=severities[i % 3],
                body=message(client, i),
                attributes={"n": i, "host": f"host-{i % 5}"},
            )
        )
    provider.shutdown()


def loki(url, count):
    import threading

    import logging_loki

    # Its own way to tell of a failure is to print it.
    logging.raiseExceptions = True

    # It sends a request for each record and waits for the answer, so several do.
    def send(part, parts):
        handler = logging_loki.LokiHandler(
            url=url + "/loki/api/v1/push", tags={"app": "shop"}, version="1"
        )
        logger = logging.getLogger(f"sender-{part}")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        for i in range(part, count, parts):
            level = [logging.INFO, logging.WARNING, logging.ERROR][i % 3]
            logger.log(level, message("loki", i), extra={"tags": {"rack": f"rack-{i % 5}"}})

    threads = [threading.Thread(target=send, args=(part, 20)) for part in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def splunk(url, count):
    from splunk_handler import SplunkHandler

    address = urllib.parse.urlparse(url)
    handler = SplunkHandler(
        host=address.hostname,
        port=address.port,
        token="00000000-0000-0000-0000-000000000000",
        index="main",
        protocol="http",
        hostname="web-1",
        source="sender",
        sourcetype="text",
        flush_interval=0.2,
        queue_size=0,
    )
    logger = logging.getLogger("sender")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for i in range(count):
        logger.info(message("splunk", i))
    handler.force_flush()


def datadog(url, count):
    from datadog_api_client import ApiClient, Configuration
    from datadog_api_client.v2.api.logs_api import LogsApi
    from datadog_api_client.v2.model.content_encoding import ContentEncoding
    from datadog_api_client.v2.model.http_log import HTTPLog
    from datadog_api_client.v2.model.http_log_item import HTTPLogItem

    address = urllib.parse.urlparse(url)
    configuration = Configuration()
    configuration.api_key["apiKeyAuth"] = "0" * 32
    configuration.server_index = 1
    configuration.server_variables["name"] = address.netloc
    configuration.server_variables["protocol"] = "http"
    with ApiClient(configuration) as client:
        logs = LogsApi(client)
        for begin in range(0, count, 1000):
            items = [
                HTTPLogItem(
                    ddsource="python",
                    ddtags="env:staging,team:a",
                    hostname=f"host-{i % 5}",
                    service="shop",
                    message=message("datadog", i),
                    status=LEVELS[i % 3],
                    n=str(i),
                )
                for i in range(begin, min(begin + 1000, count))
            ]
            logs.submit_log(body=HTTPLog(items), content_encoding=ContentEncoding.GZIP)


def journal(url, count):
    upload_journal(url, [range(count)])


def journal_resumed(url, count):
    upload_journal(url, [range(count // 2), range(count // 2, count)])


def upload_journal(url, parts):
    import os
    import struct
    import subprocess
    import tempfile

    def program(name):
        for folder in ["/usr/lib/systemd", "/lib/systemd"]:
            if os.path.exists(os.path.join(folder, name)):
                return os.path.join(folder, name)
        raise SystemExit(f"Error: no {name}: apt-get install systemd-journal-remote")

    machine, boot = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    with tempfile.TemporaryDirectory() as folder:
        export, written = os.path.join(folder, "export"), os.path.join(folder, "j.journal")
        state = os.path.join(folder, "state")
        remote = [program("systemd-journal-remote"), f"--output={written}", export]
        upload = [program("systemd-journal-upload"), f"--url={url}", f"--file={written}"]
        upload += ["--follow=no", f"--save-state={state}"]
        for part in parts:
            with open(export, "wb") as out:
                for i in part:
                    note = f"two\nlines of {i}".encode()
                    entry = (
                        f"__REALTIME_TIMESTAMP={(START_S + i) * 1_000_000}\n"
                        f"__MONOTONIC_TIMESTAMP={i}\n_BOOT_ID={boot}\n_MACHINE_ID={machine}\n"
                        f"_HOSTNAME=host-{i % 5}\n_SYSTEMD_UNIT=shop.service\n_PID={1000 + i}\n"
                        f"PRIORITY={[6, 4, 3][i % 3]}\nN={i}\n"
                        f"MESSAGE={message('journal', i)}\nNOTE\n"
                    )
                    length = struct.pack("<Q", len(note))
                    out.write(entry.encode() + length + note + b"\n\n")
            subprocess.run(remote, check=True)
            subprocess.run(upload, check=True)
            with open(state) as saved:
                assert "LAST_CURSOR=s=" in saved.read(), "what was uploaded is acknowledged"


def fluent(address, count):
    from fluent import sender

    host, port = address.split(":")
    client = sender.FluentSender("shop", host=host, port=int(port), nanosecond_precision=True)
    for i in range(count):
        event = {"message": message("fluent", i), "n": i, "rack": "r1"}
        assert client.emit_with_time("web", START_S + i, event), client.last_error
    client.close()


if __name__ == "__main__":
    client, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    globals()[client](url, count)
