/* The floor: read every file named on standard input, SHA-256 it, write unique bytes under their
   digest. THREADS threads, no database. usage: floor THREADS FOLDER [sync] */

#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, SLOTS = 1 << 20 };

static char **paths;
static size_t count, next_path;
static unsigned char seen[SLOTS][32];
static char used[SLOTS];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static int folder;

static void require(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static int is_new(const unsigned char *digest) {
    size_t slot;
    int fresh;
    memcpy(&slot, digest, sizeof slot);
    pthread_mutex_lock(&gate);
    for (slot %= SLOTS; used[slot] && memcmp(seen[slot], digest, 32); slot = (slot + 1) % SLOTS) {
    }
    fresh = !used[slot];
    used[slot] = 1;
    memcpy(seen[slot], digest, 32);
    pthread_mutex_unlock(&gate);
    return fresh;
}

static void write_all(int to, const unsigned char *bytes, size_t size) {
    while (size) {
        ssize_t done = write(to, bytes, size);
        require(done > 0, "write");
        bytes += done;
        size -= done;
    }
}

static char *read_all(int from, size_t size, EVP_MD_CTX *hash) {
    unsigned char *bytes = malloc(size + 1);
    size_t filled = 0;
    ssize_t got;
    while ((got = read(from, bytes + filled, size - filled < CHUNK ? size - filled : CHUNK)) > 0) {
        EVP_DigestUpdate(hash, bytes + filled, got);
        filled += got;
    }
    require(filled == size, "read");
    return (char *)bytes;
}

static void keep(const char *path, EVP_MD_CTX *hash) {
    unsigned char digest[32];
    char name[80], draft[90];
    struct stat facts;
    int from = open(path, O_RDONLY);
    require(from >= 0 && !fstat(from, &facts), path);
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    char *bytes = read_all(from, facts.st_size, hash);
    close(from);
    EVP_DigestFinal_ex(hash, digest, NULL);
    if (is_new(digest)) {
        sprintf(name, "%02x/", digest[0]);
        for (int i = 0; i < 32; i++) sprintf(name + 3 + 2 * i, "%02x", digest[i]);
        sprintf(draft, "%s.tmp", name);
        int to = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL, 0600);
        require(to >= 0, draft);
        write_all(to, (unsigned char *)bytes, facts.st_size);
        close(to);
        require(!renameat(folder, draft, folder, name), name);
    }
    free(bytes);
}

static void *work(void *unused) {
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    for (;;) {
        size_t mine = __atomic_fetch_add(&next_path, 1, __ATOMIC_RELAXED);
        if (mine >= count) break;
        keep(paths[mine], hash);
    }
    EVP_MD_CTX_free(hash);
    return unused;
}

int main(int argc, char **argv) {
    char *line = NULL, shard[3];
    size_t room = 0;
    ssize_t length;
    int threads = atoi(argv[1]);
    pthread_t running[16];
    folder = open(argv[2], O_RDONLY | O_DIRECTORY);
    require(folder >= 0, argv[2]);
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = 0;
        paths = realloc(paths, (count + 1) * sizeof *paths);
        paths[count++] = strdup(line);
    }
    for (int i = 0; i < 256; i++) {
        sprintf(shard, "%02x", i);
        require(!mkdirat(folder, shard, 0700), shard);
    }
    for (int i = 0; i < threads; i++) pthread_create(&running[i], NULL, work, NULL);
    for (int i = 0; i < threads; i++) pthread_join(running[i], NULL);
    if (argc > 3) require(!syncfs(folder), "syncfs");
    return 0;
}
