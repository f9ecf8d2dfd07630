/* For a comparison only: makes every sync of a file a success without doing it, as if the disk cost nothing. The peer that
 * trullo is compared with never syncs. cc -shared -fPIC -O2 -o nosync.so nosync.c; LD_PRELOAD=nosync.so trullo testnet up .. */
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
