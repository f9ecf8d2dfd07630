"""What a client of S3 sees: checks with boto3 at its default settings against a running gateway.

Usage: s3-clients.py small|large
Endpoint and keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; those of a key that may
only read from READ_ONLY_AWS_ACCESS_KEY_ID and READ_ONLY_AWS_SECRET_ACCESS_KEY; RESTART is a command that kills the node and
starts it again. Every check is a function whose
name is a claim; each prints one line. `large` adds the sizes that take long.
"""

import base64
import concurrent.futures
import hashlib
import http.client
import io
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1 << 20
PART = 5 * MIB
BUCKET = f"clients-{os.getpid()}"
KEYS = ["a&b", "a+b", "a%b", "a b", "é", "空", "//", "/lead", "a//b", "dir/", "dir", "dir/x", "dir-1", "dir.d/y", "..", "a/../b", "%f", "q?x=1#y"]
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
s3 = boto3.client("s3", region_name="us-east-1")


def body(size, seed=0):
    """Bytes that do not compress and are the same each time."""
    block = hashlib.shake_256(b"%d" % seed).digest(min(size, MIB) or 1)
    return (block * (size // len(block) + 1))[:size]


def code_of(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return None, 200


def put(key, data, **more):
    return s3.put_object(Bucket=BUCKET, Key=key, Body=data, **more)


def get(key, **more):
    return s3.get_object(Bucket=BUCKET, Key=key, **more)["Body"].read()


def keys(**more):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, **more)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def raw(method, path, headers=None, data=None):
    """A request that no library has a hand in."""
    url = urllib.parse.urlsplit(ENDPOINT)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request(method, path, body=data, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def clear(bucket):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        names = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if names:
            assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": names})


def a_bucket_is_made_once_and_listed():
    s3.create_bucket(Bucket=BUCKET)
    assert code_of(s3.create_bucket, Bucket=BUCKET)[0] == "BucketAlreadyOwnedByYou"
    assert code_of(s3.create_bucket, Bucket="No_Bucket")[0] == "InvalidBucketName"
    assert BUCKET in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket=BUCKET)
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] is None
    assert code_of(s3.head_bucket, Bucket="not-there")[1] == 404
    assert code_of(s3.get_object, Bucket="not-there", Key="x")[0] == "NoSuchBucket"
    assert code_of(s3.get_object, Bucket=BUCKET, Key="x")[0] == "NoSuchKey"


def small_objects_come_back_with_the_md5_as_tag():
    for size in (0, 1, PART - 1, PART, PART + 1):
        data = body(size, size)
        done = put(f"size/{size}", data)
        assert done["ETag"] == f'"{hashlib.md5(data).hexdigest()}"', (size, done["ETag"])
        assert get(f"size/{size}") == data, size
        head = s3.head_object(Bucket=BUCKET, Key=f"size/{size}")
        assert head["ContentLength"] == size


def every_key_is_kept_as_it_is_and_listed_in_the_order_of_bytes():
    # A key that ends with `/` is a folder's and has no bytes.
    data = lambda key: b"" if key.endswith("/") else key.encode()
    for key in KEYS:
        put(f"keys/{key}", data(key))
    want = sorted((f"keys/{key}" for key in KEYS), key=lambda key: key.encode())
    assert keys(Prefix="keys/") == want, keys(Prefix="keys/")
    assert keys(Prefix="keys/", PaginationConfig={"PageSize": 3}) == want
    old = s3.get_paginator("list_objects").paginate(Bucket=BUCKET, Prefix="keys/", PaginationConfig={"PageSize": 4})
    assert [item["Key"] for page in old for item in page["Contents"]] == want
    for key in KEYS:
        assert get(f"keys/{key}") == data(key), key
    s3.delete_object(Bucket=BUCKET, Key="keys/dir")
    assert get("keys/dir/x") == b"dir/x" and get("keys/dir/") == b""
    put("keys/" + "x" * 1019, b"")
    assert code_of(put, key="keys/" + "x" * 1020, data=b"")[0] == "KeyTooLongError"


def a_delimiter_gathers_what_begins_alike():
    for key in ("d/a", "d/b/1", "d/b/2", "d/c", "d/e/f/g"):
        put(key, b"")
    for size in (1, 2, 1000):
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix="d/", Delimiter="/", PaginationConfig={"PageSize": size}
        )
        found = [(p.get("Contents", []), p.get("CommonPrefixes", [])) for p in pages]
        assert [item["Key"] for contents, _ in found for item in contents] == ["d/a", "d/c"], size
        assert [item["Prefix"] for _, prefixes in found for item in prefixes] == ["d/b/", "d/e/"], size
    put("d/", b"", Metadata={"own": "1"})
    folder = s3.list_objects_v2(Bucket=BUCKET, Prefix="d/", Delimiter="/")
    assert [item["Key"] for item in folder["Contents"]] == ["d/", "d/a", "d/c"]
    assert s3.head_object(Bucket=BUCKET, Key="d/")["Metadata"] == {"own": "1"} and get("d/") == b""
    after = s3.list_objects_v2(Bucket=BUCKET, Prefix="d/", StartAfter="d/b/1")
    assert [item["Key"] for item in after["Contents"]] == ["d/b/2", "d/c", "d/e/f/g"]
    none = s3.list_objects_v2(Bucket=BUCKET, Prefix="d/", MaxKeys=0)
    assert none["KeyCount"] == 0 and not none["IsTruncated"]


def metadata_headers_and_tags_come_back():
    put(
        "meta", b"x", ContentType="text/plain", CacheControl="no-store", ContentDisposition='attachment; filename="a b"',
        ContentEncoding="gzip", ContentLanguage="de", Metadata={"name": "value", "mtime": "1.5"}, Tagging="a=1&b=%C3%A9",
    )
    head = s3.head_object(Bucket=BUCKET, Key="meta")
    assert head["Metadata"] == {"name": "value", "mtime": "1.5"}, head["Metadata"]
    assert (head["ContentType"], head["CacheControl"], head["ContentEncoding"]) == ("text/plain", "no-store", "gzip")
    assert (head["ContentDisposition"], head["ContentLanguage"]) == ('attachment; filename="a b"', "de")
    tags = lambda: {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=BUCKET, Key="meta")["TagSet"]}
    assert tags() == {"a": "1", "b": "é"}
    s3.put_object_tagging(Bucket=BUCKET, Key="meta", Tagging={"TagSet": [{"Key": "c", "Value": "2"}]})
    assert tags() == {"c": "2"} and s3.head_object(Bucket=BUCKET, Key="meta")["ETag"] == head["ETag"]
    s3.delete_object_tagging(Bucket=BUCKET, Key="meta")
    assert tags() == {}
    overridden = s3.get_object(Bucket=BUCKET, Key="meta", ResponseContentType="text/html")
    assert overridden["ContentType"] == "text/html"
    too_much = {"x": "y" * 3000}
    assert code_of(put, key="m", data=b"", Metadata=too_much)[0] == "MetadataTooLarge"
    assert code_of(put, key="m", data=b"", Tagging="&".join(f"t{n}=1" for n in range(11)))[0] == "InvalidTag"


def ranges_are_cut_as_http_says():
    data = body(200_000)
    put("range", data)
    for text, want in (("bytes=0-9", data[:10]), ("bytes=199990-", data[-10:]), ("bytes=-5", data[-5:]), ("bytes=65530-65550", data[65530:65551])):
        answer = s3.get_object(Bucket=BUCKET, Key="range", Range=text)
        assert answer["Body"].read() == want and answer["ResponseMetadata"]["HTTPStatusCode"] == 206, text
    assert code_of(s3.get_object, Bucket=BUCKET, Key="range", Range="bytes=200000-")[0] == "InvalidRange"


def conditions_are_held_to():
    data = b"one"
    tag = put("cond", data)["ETag"]
    assert code_of(s3.get_object, Bucket=BUCKET, Key="cond", IfNoneMatch=tag)[1] == 304
    assert code_of(s3.get_object, Bucket=BUCKET, Key="cond", IfMatch='"other"')[1] == 412
    assert get("cond", IfMatch=tag) == data
    when = s3.head_object(Bucket=BUCKET, Key="cond")["LastModified"]
    assert code_of(s3.get_object, Bucket=BUCKET, Key="cond", IfModifiedSince=when)[1] == 304
    assert code_of(put, key="cond", data=b"two", IfNoneMatch="*")[1] == 412
    put("cond-new", b"two", IfNoneMatch="*")
    assert code_of(put, key="cond", data=b"two", IfMatch='"other"')[1] == 412
    put("cond", b"two", IfMatch=tag)
    assert get("cond") == b"two"
    # Of many that want to be the first one is.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: code_of(put, key="cond-race", data=b"%d" % n, IfNoneMatch="*")[1], range(8)))
    assert sorted(codes) == [200] + [412] * 7, codes


def wrong_checksums_are_refused_and_nothing_is_kept():
    data = body(300_000, 7)
    wrong = base64.b64encode(b"\0" * 4).decode()
    assert code_of(put, key="bad", data=data, ChecksumCRC32=wrong)[0] == "BadDigest"
    assert code_of(put, key="bad", data=data, ContentMD5=base64.b64encode(b"\0" * 16).decode())[0] == "BadDigest"
    assert code_of(s3.head_object, Bucket=BUCKET, Key="bad")[1] == 404
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
        done = put("sum", data, ChecksumAlgorithm=algorithm)
        assert done[f"Checksum{algorithm}"], algorithm
        head = s3.head_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"] and head["ChecksumType"] == "FULL_OBJECT"
        assert get("sum", ChecksumMode="ENABLED") == data


def a_wrong_checksum_behind_the_body_is_refused():
    """The form in which SDKs send streams: unsigned pieces, the checksum as a trailer. One bit of it is changed on the way."""
    data = body(100_000, 9)
    for flip, want in ((0, 200), (1, 400)):
        sum32 = base64.b64encode((zlib.crc32(data) ^ flip).to_bytes(4, "big")).decode()
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:65536], data[65536:]))
        chunked += f"0\r\nx-amz-checksum-crc32:{sum32}\r\n\r\n".encode()
        headers = {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32",
            "x-amz-decoded-content-length": str(len(data)), "content-encoding": "aws-chunked",
        }
        status, text = signed("PUT", f"/{BUCKET}/trailer{flip}", headers, chunked)
        assert status == want, (flip, status, text)
        assert flip == 0 or b"BadDigest" in text, text
    assert get("trailer0") == data and code_of(s3.head_object, Bucket=BUCKET, Key="trailer1")[1] == 404
    headers = {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}
    status, text = signed("PUT", f"/{BUCKET}/trailer2", headers, b"these")
    assert status == 400 and b"XAmzContentSHA256Mismatch" in text, (status, text)


def signed(method, path, headers, data):
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.session import Session

    class Given(SigV4Auth):
        def payload(self, request):
            return headers["x-amz-content-sha256"]

    request = AWSRequest(method, ENDPOINT + path, headers=headers)
    Given(Session().get_credentials(), "s3", "us-east-1").add_auth(request)
    sent = dict(request.headers.items())
    status, text, _ = raw(method, path, sent, data)
    return status, text


def who_does_not_sign_gets_nothing():
    assert raw("GET", f"/{BUCKET}/cond")[0] == 403 and raw("GET", "/")[0] == 403
    assert raw("PUT", f"/{BUCKET}/x", data=b"x")[0] == 403
    other = boto3.client("s3", region_name="us-east-1", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="x" * 48)
    assert code_of(other.list_buckets)[0] == "SignatureDoesNotMatch"
    other = boto3.client("s3", region_name="us-east-1", aws_access_key_id="TRU0000000000000000", aws_secret_access_key="x" * 48)
    assert code_of(other.list_buckets)[0] == "InvalidAccessKeyId"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert raw("POST", f"/{BUCKET}", form, b"--x--")[0] == 501


def a_key_that_may_only_read_changes_nothing():
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    known = {name.lower(): os.environ["READ_ONLY_" + name] for name in names}
    reader = boto3.client("s3", region_name="us-east-1", **known)
    assert reader.get_object(Bucket=BUCKET, Key="cond")["Body"].read() == get("cond")
    for call, more in (
        (reader.put_object, {"Body": b"x"}), (reader.delete_object, {}), (reader.create_multipart_upload, {}),
        (reader.copy_object, {"CopySource": {"Bucket": BUCKET, "Key": "cond"}}), (reader.delete_object_tagging, {}),
    ):
        assert code_of(call, Bucket=BUCKET, Key="cond", **more)[0] == "AccessDenied", call
    assert code_of(reader.delete_bucket, Bucket=BUCKET)[0] == "AccessDenied"


def presigned_links_work_until_they_expire():
    put("pre/é &+.txt", b"linked")
    plain = lambda url: raw("GET", url[len(ENDPOINT):])
    fourth = boto3.client("s3", region_name="us-east-1", config=Config(signature_version="s3v4"))
    for client in (s3, fourth):
        url = client.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "pre/é &+.txt"}, ExpiresIn=60)
        status, text, _ = plain(url)
        assert (status, text) == (200, b"linked"), (status, text)
        assert plain(url.replace("pre/", "range/"))[0] == 403
        assert raw("PUT", url[len(ENDPOINT):], data=b"other")[0] == 403
    brief = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "pre/é &+.txt"}, ExpiresIn=1)
    deadline = time.monotonic() + 30
    while plain(brief)[0] != 403:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    url = s3.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "pre/put"}, ExpiresIn=60)
    assert raw("PUT", url[len(ENDPOINT):], data=b"by link")[0] == 200 and get("pre/put") == b"by link"


def an_upload_in_parts_becomes_one_object():
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts", Metadata={"a": "b"}, ContentType="x/y")["UploadId"]
    name = {"Bucket": BUCKET, "Key": "parts", "UploadId": upload}
    parts = {1: body(PART, 1), 3: body(PART + 7, 3), 10: body(11, 10)}
    tags = {}
    for number in (10, 3, 1):
        if number == 3:
            s3.upload_part(PartNumber=number, Body=body(PART, 99), **name)
        tags[number] = s3.upload_part(PartNumber=number, Body=parts[number], **name)["ETag"]
    s3.upload_part(PartNumber=5, Body=b"not wanted", **name)
    assert [part["PartNumber"] for part in s3.list_parts(**name)["Parts"]] == [1, 3, 5, 10]
    page = s3.list_parts(MaxParts=2, PartNumberMarker=1, **name)
    assert [part["PartNumber"] for part in page["Parts"]] == [3, 5] and page["IsTruncated"]
    assert upload in [item["UploadId"] for item in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]]
    assert "parts" not in keys(), "an upload is no object before it is completed"
    listed = lambda numbers: {"Parts": [{"PartNumber": number, "ETag": tags.get(number, '"00"')} for number in numbers]}
    complete = lambda numbers: code_of(s3.complete_multipart_upload, MultipartUpload=listed(numbers), **name)[0]
    assert complete([3, 1]) == "InvalidPartOrder"
    assert complete([1, 2]) == "InvalidPart"
    assert complete([1, 5, 10]) == "InvalidPart"
    done = s3.complete_multipart_upload(MultipartUpload=listed([1, 3, 10]), **name)
    want = parts[1] + parts[3] + parts[10]
    md5s = b"".join(hashlib.md5(parts[number]).digest() for number in (1, 3, 10))
    assert done["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"', done["ETag"]
    assert get("parts") == want
    again = s3.complete_multipart_upload(MultipartUpload=listed([1, 3, 10]), **name)
    assert again["ETag"] == done["ETag"], "a client that lost the answer asks again"
    head = s3.head_object(Bucket=BUCKET, Key="parts", PartNumber=2)
    assert head["ContentLength"] == PART + 7 and head["PartsCount"] == 3 and head["Metadata"] == {"a": "b"}
    assert get("parts", PartNumber=3) == parts[10]
    assert get("parts", Range=f"bytes={PART - 5}-{PART + 4}") == want[PART - 5 : PART + 5]
    attributes = s3.get_object_attributes(Bucket=BUCKET, Key="parts", ObjectAttributes=["ETag", "ObjectParts", "ObjectSize", "Checksum"])
    assert attributes["ObjectSize"] == len(want) and attributes["ObjectParts"]["TotalPartsCount"] == 3


def an_upload_that_is_aborted_leaves_nothing():
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="gone")["UploadId"]
    name = {"Bucket": BUCKET, "Key": "gone", "UploadId": upload}
    tag = s3.upload_part(PartNumber=1, Body=b"x", **name)["ETag"]
    wrong = base64.b64encode(b"\0" * 4).decode()
    assert code_of(s3.upload_part, PartNumber=2, Body=b"x", ChecksumCRC32=wrong, **name)[0] == "BadDigest"
    s3.abort_multipart_upload(**name)
    assert code_of(s3.upload_part, PartNumber=2, Body=b"x", **name)[0] == "NoSuchUpload"
    assert code_of(s3.list_parts, **name)[0] == "NoSuchUpload"
    listed = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    assert code_of(s3.complete_multipart_upload, MultipartUpload=listed, **name)[0] == "NoSuchUpload"
    small = s3.create_multipart_upload(Bucket=BUCKET, Key="gone")["UploadId"]
    name["UploadId"] = small
    tags = [s3.upload_part(PartNumber=number, Body=b"x", **name)["ETag"] for number in (1, 2)]
    listed = {"Parts": [{"PartNumber": number + 1, "ETag": tag} for number, tag in enumerate(tags)]}
    assert code_of(s3.complete_multipart_upload, MultipartUpload=listed, **name)[0] == "EntityTooSmall"
    s3.abort_multipart_upload(**name)
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def copies_have_the_bytes_and_what_is_kept_with_them():
    data = body(100_000, 4)
    put("copy/from é", data, Metadata={"k": "v"}, ContentType="a/b", Tagging="t=1")
    source = {"Bucket": BUCKET, "Key": "copy/from é"}
    s3.copy_object(Bucket=BUCKET, Key="copy/to", CopySource=source)
    head = s3.head_object(Bucket=BUCKET, Key="copy/to")
    assert get("copy/to") == data and head["Metadata"] == {"k": "v"} and head["ContentType"] == "a/b"
    assert head["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    s3.copy_object(Bucket=BUCKET, Key="copy/to", CopySource={"Bucket": BUCKET, "Key": "copy/to"}, Metadata={"n": "w"}, MetadataDirective="REPLACE")
    assert s3.head_object(Bucket=BUCKET, Key="copy/to")["Metadata"] == {"n": "w"} and get("copy/to") == data
    same = {"Bucket": BUCKET, "Key": "copy/to", "CopySource": {"Bucket": BUCKET, "Key": "copy/to"}}
    assert code_of(s3.copy_object, **same)[0] == "InvalidRequest"
    assert code_of(s3.copy_object, Bucket=BUCKET, Key="y", CopySource=source, CopySourceIfMatch='"no"')[1] == 412
    s3.delete_object(Bucket=BUCKET, Key="copy/from é")
    assert get("copy/to") == data, "a copy stays when its source goes"
    put("copy/big", body(PART + 100, 5))
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="copy/parts")["UploadId"]
    name = {"Bucket": BUCKET, "Key": "copy/parts", "UploadId": upload}
    ranges = [f"bytes=0-{PART - 1}", f"bytes={PART}-{PART + 99}"]
    source = {"Bucket": BUCKET, "Key": "copy/big"}
    tags = [s3.upload_part_copy(PartNumber=n + 1, CopySource=source, CopySourceRange=r, **name)["CopyPartResult"]["ETag"] for n, r in enumerate(ranges)]
    s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": n + 1, "ETag": t} for n, t in enumerate(tags)]}, **name)
    assert get("copy/parts") == body(PART + 100, 5)


def what_is_not_offered_answers_501():
    for call, more in (
        (s3.get_bucket_policy, {}), (s3.get_bucket_acl, {}), (s3.get_bucket_lifecycle_configuration, {}),
        (s3.put_bucket_versioning, {"VersioningConfiguration": {"Status": "Enabled"}}), (s3.get_bucket_cors, {}),
        (s3.put_object, {"Key": "x", "ACL": "public-read"}), (s3.put_object, {"Key": "x", "StorageClass": "GLACIER"}),
        (s3.put_object, {"Key": "x", "ServerSideEncryption": "AES256"}), (s3.get_object, {"Key": "cond", "VersionId": "v"}),
    ):
        assert code_of(call, Bucket=BUCKET, **more) == ("NotImplemented", 501), (call, code_of(call, Bucket=BUCKET, **more))
    assert "Status" not in s3.get_bucket_versioning(Bucket=BUCKET)


def many_small_objects_at_once_are_all_there():
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: put(f"many/{n:03}", b"%d" % n), range(40)))
    assert keys(Prefix="many/") == [f"many/{n:03}" for n in range(40)]
    gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": f"many/{n:03}"} for n in range(40)] + [{"Key": "never"}]})
    assert len(gone["Deleted"]) == 41 and keys(Prefix="many/") == []


def what_was_acknowledged_is_there_after_kill_9():
    """A thread puts small objects and another uploads in parts until the node is killed; RESTART kills it and starts it again."""
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="killed")["UploadId"]
    name = {"Bucket": BUCKET, "Key": "killed", "UploadId": upload}
    first = s3.upload_part(PartNumber=1, Body=body(PART, 1), **name)["ETag"]
    client = boto3.client("s3", region_name="us-east-1", config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=20))
    stored, stop = [], threading.Event()

    def puts():
        number = 0
        while not stop.is_set():
            try:
                client.put_object(Bucket=BUCKET, Key=f"kill/{number}", Body=b"%d" % number)
                stored.append(number)
            except Exception:  # the node is gone for a moment
                time.sleep(0.1)
            number += 1

    writer = threading.Thread(target=puts)
    writer.start()
    deadline = time.monotonic() + 60
    while len(stored) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    subprocess.run(os.environ["RESTART"], shell=True, check=True, stdout=subprocess.DEVNULL)
    before = len(stored)
    while len(stored) < before + 2:
        assert time.monotonic() < deadline + 60
        time.sleep(0.05)
    stop.set()
    writer.join()
    for number in stored:
        assert get(f"kill/{number}") == b"%d" % number
    assert set(stored) <= {int(key.split("/")[1]) for key in keys(Prefix="kill/")}
    assert [part["PartNumber"] for part in s3.list_parts(**name)["Parts"]] == [1], "an upload goes on after a restart"
    second = s3.upload_part(PartNumber=2, Body=b"end", **name)["ETag"]
    listed = {"Parts": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]}
    s3.complete_multipart_upload(MultipartUpload=listed, **name)
    assert get("killed") == body(PART, 1) + b"end"


def a_bucket_goes_when_it_is_empty():
    assert code_of(s3.delete_bucket, Bucket=BUCKET)[0] == "BucketNotEmpty"
    clear(BUCKET)
    s3.delete_bucket(Bucket=BUCKET)
    assert code_of(s3.head_bucket, Bucket=BUCKET)[1] == 404


def large_objects_come_back(sizes=(100 * MIB,)):
    """In the parts that the SDK chooses, several at once, and back the same way."""
    for size in sizes:
        data = body(size, 8)
        begin = time.monotonic()
        s3.upload_fileobj(io.BytesIO(data), BUCKET, "large")
        up = time.monotonic()
        back = io.BytesIO()
        s3.download_fileobj(BUCKET, "large", back)
        down = time.monotonic()
        assert back.getbuffer() == data
        print(f"  {size / MIB:.0f} MiB: up {size / MIB / (up - begin):.1f} MiB/s, down {size / MIB / (down - up):.1f} MiB/s")
    single = body(100 * MIB, 9)
    s3.put_object(Bucket=BUCKET, Key="large", Body=single)
    assert get("large") == single


def a_gibibyte_comes_back():
    large_objects_come_back((1 << 30,))


SMALL = [
    a_bucket_is_made_once_and_listed,
    small_objects_come_back_with_the_md5_as_tag,
    every_key_is_kept_as_it_is_and_listed_in_the_order_of_bytes,
    a_delimiter_gathers_what_begins_alike,
    metadata_headers_and_tags_come_back,
    ranges_are_cut_as_http_says,
    conditions_are_held_to,
    wrong_checksums_are_refused_and_nothing_is_kept,
    a_wrong_checksum_behind_the_body_is_refused,
    who_does_not_sign_gets_nothing,
    presigned_links_work_until_they_expire,
    an_upload_in_parts_becomes_one_object,
    an_upload_that_is_aborted_leaves_nothing,
    copies_have_the_bytes_and_what_is_kept_with_them,
    what_is_not_offered_answers_501,
    many_small_objects_at_once_are_all_there,
]
LARGE = [large_objects_come_back, a_gibibyte_comes_back]


def main():
    which = sys.argv[1] if len(sys.argv) > 1 else "small"
    if "READ_ONLY_AWS_ACCESS_KEY_ID" in os.environ:
        SMALL.append(a_key_that_may_only_read_changes_nothing)
    if "RESTART" in os.environ:
        SMALL.append(what_was_acknowledged_is_there_after_kill_9)
    checks = SMALL + (LARGE if which == "large" else []) + [a_bucket_goes_when_it_is_empty]
    if which not in ("small", "large"):
        checks = [SMALL[0]] + [check for check in SMALL + LARGE if check.__name__ == which]
    for check in checks:
        begin = time.monotonic()
        check()
        print(f"boto3: {check.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)


main()
