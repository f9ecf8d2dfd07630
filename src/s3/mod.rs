//! S3: the account's folders as buckets, for programs that speak that protocol.
