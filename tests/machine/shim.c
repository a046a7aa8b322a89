/* Between a daemon and the C library, by LD_PRELOAD: records what is written to the database's files and to the state directory's, when it
 * is made durable and when a charge or an event leaves; and lets syncs fail for as long as it is told to. It is for tests alone.
 *
 *   SHIM_DATABASE  path of the SQLite file; its log of changes is the same with -wal
 *   SHIM_RECORD    file that is appended to; tests/machine/recording.rs reads it
 *   SHIM_FAULT     file whose first byte says what fails now: 'S' syncs of the database, 'M' of the state directory. No file: nothing fails
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DATABASE = 1, WAL = 2, MARK = 3, JOURNAL = 4, DESCRIPTORS = 4096, LOOKED_AT = 8192 };

struct head {
    uint8_t kind, file;
    uint16_t unused;
    uint32_t length;
    uint64_t offset;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t files[DESCRIPTORS];
static int record = -1;
static uint64_t syncs;
static const char *database, *fault;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIM_RECORD");
    database = getenv("SHIM_DATABASE");
    fault = getenv("SHIM_FAULT");
    if (path) record = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* With the lock held. A record that cannot be written would hide a fault: the process ends. */
static void tell(char kind, int file, uint64_t offset, const void *data, size_t length) {
    struct head head = {(uint8_t)kind, (uint8_t)file, 0, (uint32_t)length, offset};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    if (record >= 0 && syscall(SYS_writev, record, parts, 2) != (ssize_t)(sizeof head + length)) abort();
}

static int ends_with(const char *path, const char *end) {
    size_t whole = strlen(path), length = strlen(end);
    return whole >= length && strcmp(path + whole - length, end) == 0;
}

static int which(const char *path) {
    size_t length = database ? strlen(database) : 0;
    if (length && strncmp(path, database, length) == 0) {
        if (path[length] == 0) return DATABASE;
        if (strcmp(path + length, "-wal") == 0) return WAL;
    }
    if (ends_with(path, "/rebilld.mark")) return MARK;
    return ends_with(path, "/rebilld.journal") ? JOURNAL : 0;
}

static int file_of(int fd) { return fd >= 0 && fd < DESCRIPTORS ? files[fd] : 0; }

static int opened(int fd, const char *path) {
    if (fd < 0 || fd >= DESCRIPTORS) return fd;
    files[fd] = (uint8_t)which(path);
    return fd;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE(flags)                                   \
    mode_t mode = 0;                                  \
    if ((flags) & (O_CREAT | O_TMPFILE)) {            \
        va_list rest;                                 \
        va_start(rest, flags);                        \
        mode = va_arg(rest, mode_t);                  \
        va_end(rest);                                 \
    }

int open(const char *path, int flags, ...) { MODE(flags) REAL(open); return opened(real(path, flags, mode), path); }
int open64(const char *path, int flags, ...) { MODE(flags) REAL(open64); return opened(real(path, flags, mode), path); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) REAL(openat); return opened(real(at, path, flags, mode), path); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) REAL(openat64); return opened(real(at, path, flags, mode), path); }

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < DESCRIPTORS) files[fd] = 0;
    return real(fd);
}

/* What leaves: a charge with its merchant_uid, an event with its id. Told before it goes. */
static void leaves(const char *text, size_t length) {
    static const char charge[] = "POST /subscribe/payments/again", id[] = "\"merchant_uid\":\"", event[] = "webhook-id: ";
    if (length < 5 || memcmp(text, "POST ", 5) != 0) return;
    int charges = length >= sizeof charge && memcmp(text, charge, sizeof charge - 1) == 0;
    const char *sign = charges ? id : event;
    size_t sign_length = charges ? sizeof id - 1 : sizeof event - 1;
    const char *found = memmem(text, length, sign, sign_length);
    if (!found && !charges) return;
    const char *from = found ? found + sign_length : text, *to = from;
    while (found && to < text + length && *to != '"' && *to != '\r') to++;
    pthread_mutex_lock(&lock);
    tell(charges ? 'P' : 'D', 0, 0, from, (size_t)(to - from));
    pthread_mutex_unlock(&lock);
}

static void parts_leave(const struct iovec *parts, int count) {
    char text[LOOKED_AT];
    size_t length = 0;
    for (int n = 0; n < count && length < sizeof text; n++) {
        size_t more = parts[n].iov_len < sizeof text - length ? parts[n].iov_len : sizeof text - length;
        memcpy(text + length, parts[n].iov_base, more);
        length += more;
    }
    leaves(text, length);
}

ssize_t send(int fd, const void *data, size_t length, int flags) { REAL(send); leaves(data, length); return real(fd, data, length, flags); }
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); parts_leave(parts, count); return real(fd, parts, count); }
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    parts_leave(message->msg_iov, (int)message->msg_iovlen);
    return real(fd, message, flags);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    int file = file_of(fd);
    if (!file) {
        leaves(data, length);
        return real(fd, data, length);
    }
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, data, length);
    if (done > 0) tell('W', file, (uint64_t)at, data, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define WRITES_AT(name)                                               \
    ssize_t name(int fd, const void *data, size_t length, off_t at) { \
        REAL(name);                                                   \
        int file = file_of(fd);                                       \
        if (!file) return real(fd, data, length, at);                 \
        pthread_mutex_lock(&lock);                                    \
        ssize_t done = real(fd, data, length, at);                    \
        if (done > 0) tell('W', file, (uint64_t)at, data, (size_t)done); \
        pthread_mutex_unlock(&lock);                                  \
        return done;                                                  \
    }
WRITES_AT(pwrite)
WRITES_AT(pwrite64)

#define TRUNCATES(name)                                       \
    int name(int fd, off_t length) {                          \
        REAL(name);                                           \
        int file = file_of(fd);                               \
        if (!file) return real(fd, length);                   \
        pthread_mutex_lock(&lock);                            \
        int done = real(fd, length);                          \
        if (done == 0) tell('T', file, (uint64_t)length, "", 0); \
        pthread_mutex_unlock(&lock);                          \
        return done;                                          \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

int unlink(const char *path) {
    REAL(unlink);
    int file = which(path);
    if (!file) return real(path);
    pthread_mutex_lock(&lock);
    int done = real(path);
    if (done == 0) tell('U', file, 0, "", 0);
    pthread_mutex_unlock(&lock);
    return done;
}

static int fails_now(int file) {
    char what = 0;
    int fd = fault ? (int)syscall(SYS_openat, AT_FDCWD, fault, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (syscall(SYS_read, fd, &what, 1) != 1) what = 0;
    syscall(SYS_close, fd);
    return what == (file < MARK ? 'S' : 'M');
}

/* What was written before a sync began is durable once it has ended; the lock is not held between. */
static int synced(int (*real)(int), int fd) {
    int file = file_of(fd);
    if (!file) return real(fd);
    pthread_mutex_lock(&lock);
    /* commands write to the same record */
    uint64_t number = (uint64_t)getpid() << 32 | ++syncs;
    tell('B', file, number, "", 0);
    pthread_mutex_unlock(&lock);
    int fails = fails_now(file), done = fails ? -1 : real(fd);
    pthread_mutex_lock(&lock);
    tell(done == 0 ? 'E' : 'F', file, number, "", 0);
    pthread_mutex_unlock(&lock);
    if (fails) errno = EIO;
    return done;
}

int fsync(int fd) { REAL(fsync); return synced(real, fd); }
int fdatasync(int fd) { REAL(fdatasync); return synced(real, fd); }
