/* Many threads compress and decompress the same arrays and frames at once: ./race CASES THREADS ROUNDS
 * To be built with -fsanitize=thread. All must find what one thread alone found. */
#define _POSIX_C_SOURCE 200809L /* barriers */
#include "cases.h"
#include <pthread.h>

enum { MOST_CASES = 1024, MOST_THREADS = 256 };

typedef struct expectation {
    test_case of;
    uint8_t *decoded, *frame;
    size_t frame_size;
} expectation;

static expectation cases[MOST_CASES];
static size_t case_count;
static unsigned rounds, thread_count;
static pthread_barrier_t start;

static bool right(const expectation *e)
{
    size_t size;
    uint8_t *decoded = decode(&e->of.h, &e->of.options, e->of.frame, e->of.frame_size);
    uint8_t *frame = encode(&e->of.h, &e->of.options, e->of.values, &size);
    bool same =
        memcmp(decoded, e->decoded, e->of.size) == 0 && size == e->frame_size && memcmp(frame, e->frame, size) == 0;
    free(decoded), free(frame);
    return same;
}

/* Threads begin at the same case, so that they are in the same code, then go different ways. */
static void *work(void *argument)
{
    size_t number = (size_t)(uintptr_t)argument;
    uintptr_t wrong = 0;
    pthread_barrier_wait(&start);
    for (unsigned i = 0; i < rounds; i++)
        wrong += !right(cases + (i * (number % 7 + 1) + i * i) % case_count);
    return (void *)wrong;
}

static void read_cases(const char *path)
{
    size_t size;
    uint8_t *data = read_file(path, &size);
    reader r = {data, data + size, false};
    for (; reader_left(&r) && case_count < MOST_CASES; case_count++) {
        expectation *e = cases + case_count;
        e->of = take_case(&r);
        e->decoded = decode(&e->of.h, &e->of.options, e->of.frame, e->of.frame_size);
        e->frame = encode(&e->of.h, &e->of.options, e->of.values, &e->frame_size);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s CASES THREADS ROUNDS\n", argv[0]);
        return 2;
    }
    thread_count = (unsigned)atoi(argv[2]);
    rounds = (unsigned)atoi(argv[3]);
    pthread_t threads[MOST_THREADS];
    read_cases(argv[1]);
    if (!case_count || thread_count < 1 || thread_count > MOST_THREADS)
        return 2;
    pthread_barrier_init(&start, NULL, thread_count);
    for (size_t i = 0; i < thread_count; i++)
        if (pthread_create(threads + i, NULL, work, (void *)(uintptr_t)i))
            fail("a thread", SZD_ARGUMENT);
    size_t wrong = 0;
    for (size_t i = 0; i < thread_count; i++) {
        void *found;
        pthread_join(threads[i], &found);
        wrong += (size_t)(uintptr_t)found;
    }
    printf("%u threads, %u rounds, %zu cases, %zu wrong\n", thread_count, rounds, case_count, wrong);
    return wrong != 0;
}
