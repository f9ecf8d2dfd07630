"""What no client of S3 does at its default settings and a gateway has to stand all the same: requests made by hand.

Usage: s3-edges.py [CHECK]
Endpoint and keys as with s3-clients.py; TRULLO and TRULLO_HOME are the program and the home of the user whose gateway it is, and
S3_DOMAIN is its domain. Every check is a function whose name is a claim.
"""

import concurrent.futures
import hashlib
import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.session import Session

MIB = 1 << 20
BUCKET = f"edges-{os.getpid()}"
ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
HOST = ENDPOINT.split("//")[1]
s3 = boto3.client("s3", region_name="us-east-1", config=Config(signature_version="s3v4", retries={"max_attempts": 1}))


class Answer:
    def __init__(self, status, text, headers):
        self.status, self.text, self.headers = status, text, headers
        found = re.search(rb"<Code>(\w+)</Code>", text)
        self.code = found and found[1].decode()


def raw(method, path, headers=None, data=None, timeout=60):
    """A request as it is."""
    host, port = HOST.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    connection.request(method, path, body=data, headers=headers or {})
    answer = connection.getresponse()
    done = Answer(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
    connection.close()
    return done


def ask(method, path, headers=None, data=b"", more=None, host=HOST, timeout=60):
    """A signed request; the headers of `more` are sent and not signed."""
    request = AWSRequest(method, f"http://{host}{path}", headers=headers or {}, data=data)

    class Given(S3SigV4Auth):
        def payload(self, request):
            return (headers or {}).get("x-amz-content-sha256") or hashlib.sha256(data).hexdigest()

    Given(Session().get_credentials(), "s3", "us-east-1").add_auth(request)
    return raw(method, path, {**dict(request.headers.items()), "Host": host, **(more or {})}, data or None, timeout)


def object_at(key):
    return f"/{BUCKET}/{key}"


def put(key, data=b"x", **more):
    return s3.put_object(Bucket=BUCKET, Key=key, Body=data, **more)["ETag"]


def there(key):
    return ask("HEAD", object_at(key)).status == 200


def link(operation, key, seconds=60, **more):
    return s3.generate_presigned_url(operation, {"Bucket": BUCKET, "Key": key, **more}, ExpiresIn=seconds)[len(ENDPOINT):]


def trullo(*args):
    command = [os.environ["TRULLO"], "--home", os.environ["TRULLO_HOME"], *args]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout


def a_link_allows_what_its_maker_signed_and_nothing_else():
    put("secret", b"secret")
    url = link("put_object", "target")
    refused = raw("PUT", url, {"x-amz-copy-source": f"/{BUCKET}/secret"})
    assert (refused.status, refused.code) == (403, "AccessDenied"), refused.text
    assert b"<HeadersNotSigned>x-amz-copy-source</HeadersNotSigned>" in refused.text, refused.text
    assert raw("PUT", url, {"x-amz-tagging": "a=1"}, b"x").status == 403
    assert not there("target")
    assert raw("PUT", url, {"Content-Type": "text/plain", "x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, b"x").status == 200
    tagged = link("put_object", "target", Tagging="a=1")
    assert raw("PUT", tagged, {"x-amz-tagging": "a=1"}, b"x").status == 200 and raw("PUT", tagged, data=b"x").status == 403
    assert ask("PUT", object_at("other"), more={"x-amz-copy-source": f"/{BUCKET}/secret"}).code == "AccessDenied"
    assert not there("other")
    assert raw("GET", link("get_object", "secret", 604_800)).text == b"secret"
    assert raw("GET", link("get_object", "secret", 604_801)).status == 400


def what_is_deleted_is_what_was_meant():
    tag = put("doomed", b"1234")
    delete = lambda inner: ask("POST", f"/{BUCKET}?delete", data=f"<Delete>{inner}</Delete>".encode())
    one = lambda more: delete(f"<Object><Key>doomed</Key>{more}</Object>")
    for more in ("<ETag>&quot;other&quot;</ETag>", "<Size>5</Size>", "<LastModifiedTime>Sun, 06 Nov 1994 08:49:37 GMT</LastModifiedTime>"):
        answer = one(more)
        assert answer.status == 200 and answer.code == "PreconditionFailed" and b"<Deleted>" not in answer.text, answer.text
    for name, value in (("if-match", '"other"'), ("x-amz-if-match-size", "5"), ("x-amz-if-match-last-modified-time", "Sun, 06 Nov 1994 08:49:37 GMT")):
        assert ask("DELETE", object_at("doomed"), {name: value}).status == 412, name
    assert there("doomed")
    answer = one(f"<ETag>{tag.replace(chr(34), '&quot;')}</ETag><Size>4</Size>")
    assert b"<Deleted>" in answer.text and not there("doomed"), answer.text
    put("doomed", b"1234")
    assert ask("DELETE", object_at("doomed"), {"if-match": tag, "x-amz-if-match-size": "4"}).status == 204 and not there("doomed")


def a_copy_replaces_only_what_it_may():
    put("from", b"from")
    tag = put("onto", b"onto")
    copy = lambda **more: ask("PUT", object_at("onto"), {"x-amz-copy-source": f"/{BUCKET}/from", **{k.replace("_", "-"): v for k, v in more.items()}})
    assert copy(if_none_match="*").status == 412 and copy(if_match='"other"').status == 412
    assert raw("GET", link("get_object", "onto")).text == b"onto"
    done = copy(if_match=tag, x_amz_metadata_directive="REPLACE", content_encoding="aws-chunked,gzip")
    assert done.status == 200, done.text
    answer = raw("GET", link("get_object", "onto"))
    assert answer.text == b"from" and answer.headers["content-encoding"] == "gzip", answer.headers


def what_is_not_offered_is_not_passed_over():
    put("mine")
    account = s3.list_buckets()["Owner"]["ID"]
    owner = lambda method, name, **more: ask(method, object_at("mine"), {"x-amz-expected-bucket-owner": name, **more})
    assert owner("GET", account).status == 200 and owner("GET", "111122223333").code == "AccessDenied"
    assert owner("DELETE", "111122223333").status == 403 and there("mine")
    assert ask("GET", f"/{BUCKET}", {"x-amz-expected-bucket-owner": "x", "if-none-match": "x"}).status == 403
    customer = "x-amz-server-side-encryption-customer-algorithm"
    assert ask("GET", object_at("mine"), {customer: "AES256"}).status == 501
    assert ask("HEAD", object_at("mine"), {customer: "AES256", "range": "bytes=0-0"}).status == 501
    for grant in ("read", "write", "read-acp", "write-acp", "full-control"):
        assert ask("PUT", object_at("granted"), {f"x-amz-grant-{grant}": "id=1"}).status == 501, grant
    assert ask("PUT", "/edges-public", {"x-amz-acl": "public-read"}).status == 501
    assert not there("granted")


def those_who_read_nothing_keep_nobody_out():
    put("long", os.urandom(MIB) * 12)
    path = link("get_object", "long")
    idle = []
    for number in range(36):
        one = socket.socket()
        if number > 0:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect((HOST.split(":")[0], int(HOST.split(":")[1])))
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        idle.append(one)
    heads = [one.recv(12) for one in idle]
    assert heads == [b"HTTP/1.1 200"] * len(idle), heads
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(f"beside/{n}", b"beside"), range(8)))
        answers = list(pool.map(lambda n: raw("GET", link("get_object", f"beside/{n}")).text, range(8)))
    took = time.monotonic() - begin
    assert answers == [b"beside"] * 8 and took < 20, took
    # Those who go on after a pause get every byte, whatever was given up meanwhile.
    slow = idle[0].makefile("rb")
    while slow.readline().strip():
        pass
    back = slow.read(12 * MIB)
    assert len(back) == 12 * MIB, len(back)
    assert hashlib.md5(back).hexdigest() == s3.head_object(Bucket=BUCKET, Key="long")["ETag"].strip('"')
    for one in idle:
        one.close()
    s3.delete_object(Bucket=BUCKET, Key="long")


def a_key_of_a_folder_has_no_bytes():
    for answer in (ask("PUT", object_at("folder/"), data=b"bytes"), ask("POST", object_at("folder/?uploads"))):
        assert (answer.status, answer.code) == (400, "InvalidArgument"), answer.text
    put("file", b"bytes")
    assert ask("PUT", object_at("folder/"), {"x-amz-copy-source": f"/{BUCKET}/file"}).code == "InvalidArgument"
    assert not there("folder/")
    assert ask("PUT", object_at("folder/")).status == 200 and there("folder/")
    assert ask("PUT", object_at("plain"), {"x-amz-copy-source": f"/{BUCKET}/folder/"}).status == 200
    assert raw("GET", link("get_object", "plain")).text == b""


def an_upload_is_completed_once_and_whoever_asks_is_told_so():
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="whole")["UploadId"]
    name = {"Bucket": BUCKET, "Key": "whole", "UploadId": upload}
    tag = s3.upload_part(PartNumber=1, Body=b"part", **name)["ETag"]
    empty = ask("GET", object_at(f"whole?uploadId={upload}&max-parts=0"))
    assert b"<IsTruncated>false</IsTruncated>" in empty.text and b"<Part>" not in empty.text, empty.text
    # Uploads are nobody's folders.
    assert ".s3-uploads" not in trullo("ls", "/") + trullo("ls", "-R", "/") + trullo("du", "/")
    with tempfile.TemporaryDirectory() as here:
        trullo("get", "-r", "/", here + "/all")
        trullo("sync", "--delete", here + "/all", "/")
    assert [part["PartNumber"] for part in s3.list_parts(**name)["Parts"]] == [1]
    listed = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>".encode()
    complete = lambda _: ask("POST", object_at(f"whole?uploadId={upload}"), data=listed)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(complete, range(3)))
    for answer in answers:
        assert answer.status == 200 and ET.fromstring(answer.text).tag.endswith("CompleteMultipartUploadResult"), answer.text
    other = ask("POST", object_at(f"whole?uploadId={upload}"), data=listed.replace(tag.encode(), b"00" * 16))
    assert other.code == "NoSuchUpload" and other.text.count(b"<?xml") == 1, other.text
    gone = ask("POST", f"/not-there/whole?uploadId={upload}", data=listed)
    assert (gone.status, gone.code) == (404, "NoSuchBucket"), gone.text


def keys_that_xml_cannot_write_are_not_taken():
    refused = ask("PUT", object_at("a%01b"), data=b"x")
    assert (refused.status, refused.code) == (400, "InvalidArgument") and b"U+0001" in refused.text, refused.text
    missing = ask("GET", object_at("a%01b"))
    assert missing.status == 404 and ET.fromstring(missing.text) is not None
    with tempfile.TemporaryDirectory() as here:
        open(f"{here}/odd\x02name", "w").write("odd")
        trullo("put", f"{here}/odd\x02name", f"/{BUCKET}/odd\x02name")
    for query in ("list-type=2&prefix=odd", "prefix=odd%02"):
        page = ask("GET", f"/{BUCKET}?{query}")
        assert "odd\ufffdname" in "".join(ET.fromstring(page.text).itertext()), page.text
    assert raw("GET", link("get_object", "odd\x02name")).text == b"odd"
    answer = ask("POST", f"/{BUCKET}?delete", data=b"<Delete><Object><Key>odd\x02name</Key></Object></Delete>")
    assert ET.fromstring(answer.text) is not None
    ask("DELETE", object_at("odd%02name"))


def ranges_and_conditions_go_by_the_rules_of_http():
    put("empty", b"")
    tag = put("ten", b"0123456789")
    get = lambda key, **headers: ask("GET", object_at(key), {k.replace("_", "-"): v for k, v in headers.items()})
    for key, text, size in (("empty", "bytes=-3", 0), ("ten", "bytes=10-", 10), ("ten", "bytes=-0", 10)):
        answer = get(key, range=text)
        assert (answer.status, answer.code) == (416, "InvalidRange"), (text, answer.text)
        assert answer.headers["content-range"] == f"bytes */{size}", answer.headers
    for text in ("bytes=0-1,4-5", "bytes=5-2", "bytes=x", "pages=1-2"):
        answer = get("ten", range=text)
        assert (answer.status, answer.text) == (200, b"0123456789"), (text, answer.text)
    head = ask("HEAD", object_at("ten"), {"range": "bytes=2-4"})
    assert (head.status, head.headers["content-range"], head.headers["content-length"]) == (206, "bytes 2-4/10", "3")
    assert get("ten", range="bytes=2-4", if_range=tag).text == b"234"
    assert get("ten", range="bytes=2-4", if_range='"other"').text == b"0123456789"
    assert raw("GET", link("get_object", "ten"), {"Range": "bytes=2-4"}).text == b"234"
    old = boto3.client("s3", region_name="us-east-1").generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "ten"})
    assert "Signature=" in old and raw("GET", old[len(ENDPOINT):], {"Range": "bytes=2-4"}).text == b"234"
    assert raw("GET", old[len(ENDPOINT):].replace("/ten", "/empty"), {"Range": "bytes=0-"}).status == 403
    assert raw("GET", object_at("ten"), {"Range": "bytes=2-4"}).code == "AccessDenied"
    part = ask("GET", object_at("ten?partNumber=2"))
    assert (part.status, part.headers["content-range"]) == (416, "bytes */10"), part.text
    assert get("ten", if_modified_since="soon").status == 200
    assert get("ten", if_none_match=f'"other", {tag}').status == 304
    assert get("ten", if_match=f'"other", {tag}').status == 200 and get("ten", if_match='"other"').status == 412


def a_malformed_body_is_told_as_what_it_is():
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": "5", "content-encoding": "aws-chunked",
    }
    answer = ask("PUT", object_at("malformed"), headers, b"zz\r\nhello\r\n0\r\n\r\n")
    assert (answer.status, answer.code) == (400, "InvalidRequest"), answer.text


def a_bucket_stays_when_its_last_object_goes():
    folder = f"edges-folder-{os.getpid()}"
    with tempfile.TemporaryDirectory() as here:
        open(f"{here}/f", "w").write("f")
        trullo("put", f"{here}/f", f"/{folder}/f")
        s3.delete_object(Bucket=folder, Key="f")
        assert folder in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
        os.symlink("nowhere", f"{here}/link")
        os.remove(f"{here}/f")
        trullo("put", "-r", here, f"/{folder}/links")
    s3.delete_object(Bucket=folder, Key="links/")
    answer = ask("DELETE", f"/{folder}")
    assert answer.code == "BucketNotEmpty" and f"trullo rm -r /{folder}".encode() in answer.text, answer.text
    trullo("rm", "-r", f"/{folder}")


def the_domain_has_buckets_below_it_and_addresses_have_them_in_the_path():
    put("named", b"named")
    domain, port = os.environ["S3_DOMAIN"], HOST.split(":")[1]
    for host in (f"{BUCKET}.{domain}:{port}", f"{BUCKET}.{domain}"):
        assert ask("GET", "/named", host=host).text == b"named", host
    for host in (f"{domain}:{port}", f"localhost:{port}", HOST):
        assert ask("GET", object_at("named"), host=host).text == b"named", host


CHECKS = [
    a_link_allows_what_its_maker_signed_and_nothing_else,
    what_is_deleted_is_what_was_meant,
    a_copy_replaces_only_what_it_may,
    what_is_not_offered_is_not_passed_over,
    those_who_read_nothing_keep_nobody_out,
    a_key_of_a_folder_has_no_bytes,
    an_upload_is_completed_once_and_whoever_asks_is_told_so,
    keys_that_xml_cannot_write_are_not_taken,
    ranges_and_conditions_go_by_the_rules_of_http,
    a_malformed_body_is_told_as_what_it_is,
    a_bucket_stays_when_its_last_object_goes,
    the_domain_has_buckets_below_it_and_addresses_have_them_in_the_path,
]


def main():
    s3.create_bucket(Bucket=BUCKET)
    wanted, failed = sys.argv[1:], []
    for check in CHECKS:
        if wanted and check.__name__ not in wanted:
            continue
        begin = time.monotonic()
        try:
            check()
            print(f"edges: {check.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception as error:
            failed.append(check.__name__)
            print(f"edges: FAILED {check.__name__}: {error!r}", flush=True)
    trullo("rm", "-r", f"/{BUCKET}")
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


main()
