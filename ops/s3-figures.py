"""Figures of the S3 gateway beside the same node's own interface. One JSON line per figure.

Run by `ops/s3-clients.sh figures`. Both ways are driven from this process over one kept connection each, turn by turn, so that
what else the machine does meets both. The native way is POST and GET of /v1/files; S3 is boto3 at its default settings, which
sends objects of 100 MiB in parts of 8 MiB, 10 at once. MIXED_SECONDS is the length of the mixed load, LARGE the rounds with 100 MiB.
"""

import http.client
import io
import json
import os
import random
import statistics
import threading
import time
from pathlib import Path

import boto3

HOME = Path(os.environ["TRULLO_HOME"])
MIB = 1 << 20
BUCKET = "figures"
s3 = boto3.client("s3", region_name="us-east-1")


def native(method, path, data=None):
    address = (HOME / "api.addr").read_text().strip()
    token = (HOME / "api.token").read_text().strip()
    connection = http.client.HTTPConnection(address, timeout=300)
    connection.request(method, path, body=data, headers={"Authorization": f"Bearer {token}", "Host": address})
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (answer.status, text[:200])
    return text


def native_put(data, name):
    return json.loads(native("POST", f"/v1/files?name={name}", data))["file_id"]


def timed(call, *arguments):
    begin = time.monotonic()
    done = call(*arguments)
    return time.monotonic() - begin, done


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def tell(figure, times, size):
    print(json.dumps({
        "figure": figure, "n": len(times), "p50_ms": round(1000 * statistics.median(times), 1),
        "p99_ms": round(1000 * percentile(times, 0.99), 1), "best_ms": round(1000 * min(times), 1),
        "mb_per_s": round(size / statistics.median(times) / 1e6, 2),
    }), flush=True)


def s3_get(key):
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def s3_get_large(key):
    back = io.BytesIO()
    s3.download_fileobj(BUCKET, key, back)
    return back.getvalue()


def rounds(label, size, count, put, get):
    times = {way: [] for way in ("native put", "s3 put", "native get", "s3 get")}
    for n in range(count):
        data = random.randbytes(size)
        took, file = timed(native_put, data, f"figure-{size}-{n}")
        times["native put"].append(took)
        took, _ = timed(put, data, f"figure-{size}-{n}")
        times["s3 put"].append(took)
        took, back = timed(native, "GET", f"/v1/files/{file}")
        times["native get"].append(took)
        assert back == data
        took, back = timed(get, f"figure-{size}-{n}")
        times["s3 get"].append(took)
        assert back == data
    for way, all_times in times.items():
        if all_times:
            tell(f"{way} {label}", all_times, size)


def mixed(seconds, workers):
    """Reads, looks, writes and deletes of 10 kB in the parts that the load generator warp has: 45, 30, 15, 10 of 100."""
    data = random.randbytes(10_000)
    times = {"GET": [], "HEAD": [], "PUT": [], "DELETE": []}
    errors = []
    end = time.monotonic() + seconds

    def work(number):
        client = boto3.session.Session().client("s3", region_name="us-east-1")
        own = []
        for n in range(3):
            client.put_object(Bucket=BUCKET, Key=f"mixed/{number}/{n}", Body=data)
            own.append(f"mixed/{number}/{n}")
        dice, made = random.Random(number), 3
        while time.monotonic() < end:
            what = dice.choices(["GET", "HEAD", "PUT", "DELETE"], [45, 30, 15, 10])[0]
            if what == "DELETE" and len(own) < 2:
                what = "PUT"
            begin = time.monotonic()
            try:
                if what == "GET":
                    assert client.get_object(Bucket=BUCKET, Key=dice.choice(own))["Body"].read() == data
                elif what == "HEAD":
                    client.head_object(Bucket=BUCKET, Key=dice.choice(own))
                elif what == "PUT":
                    key = f"mixed/{number}/{made}"
                    made += 1
                    client.put_object(Bucket=BUCKET, Key=key, Body=data)
                    own.append(key)
                else:
                    client.delete_object(Bucket=BUCKET, Key=own.pop(dice.randrange(len(own))))
            except Exception as error:  # every failure is a figure
                errors.append(repr(error))
            times[what].append(time.monotonic() - begin)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    for what, all_times in times.items():
        if all_times:
            tell(f"mixed {what} 10 kB, {workers} at once", all_times, 10_000)
    total = sum(len(all_times) for all_times in times.values())
    print(json.dumps({"figure": f"mixed, {workers} at once", "requests_per_s": round(total / took, 1), "errors": len(errors)}), flush=True)
    for error in errors[:3]:
        print(json.dumps({"error": error}), flush=True)


def main():
    try:
        s3.create_bucket(Bucket=BUCKET)
    except s3.exceptions.BucketAlreadyOwnedByYou:
        pass
    put = lambda data, key: s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    rounds("10 kB", 10_000, int(os.environ.get("SMALL", "100")), put, s3_get)
    upload = lambda data, key: s3.upload_fileobj(io.BytesIO(data), BUCKET, key)
    rounds("100 MiB", 100 * MIB, int(os.environ.get("LARGE", "5")), upload, s3_get_large)
    mixed(float(os.environ.get("MIXED_SECONDS", "30")), 8)


main()
