/* What the fuzz targets share: buffers between guard pages, numbers out of the fuzzer's bytes, a check that holds in
 * every build, and the comparison of all instruction sets. A target is a file with LLVMFuzzerTestOneInput. */
#ifndef SZD_FUZZ_H
#define SZD_FUZZ_H
#define _GNU_SOURCE
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

enum { GUARD = 1 << 16, GUARDED_BUFFERS = 12 }; /* a guard is a whole number of any machine's pages */
static const size_t GUARDED_MOST = (size_t)1 << 26;

/* Buffers of exactly `size` bytes with pages beside them that nothing may touch. Odd sizes end where the guard behind
 * begins, even ones begin where the one before ends, so that both directions are met. A buffer's number says which one;
 * what an earlier input left in it stays there, as in memory that a program uses again. */
static inline uint8_t *guarded(unsigned number, size_t size, bool at_end)
{
    static uint8_t *maps[GUARDED_BUFFERS];
    CHECK(number < GUARDED_BUFFERS && size <= GUARDED_MOST);
    if (!maps[number]) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        uint8_t *map = mmap(NULL, GUARDED_MOST + 2 * GUARD, PROT_NONE, flags, -1, 0);
        CHECK(map != MAP_FAILED && mprotect(map + GUARD, GUARDED_MOST, PROT_READ | PROT_WRITE) == 0);
        maps[number] = map + GUARD;
    }
    return at_end ? maps[number] + GUARDED_MOST - size : maps[number];
}

/* The fuzzer's bytes between guards. */
static inline reader guarded_input(unsigned number, const uint8_t *data, size_t size, bool at_end)
{
    uint8_t *copy = guarded(number, size, at_end);
    if (size)
        memcpy(copy, data, size);
    return (reader){copy, copy + size, false};
}

static inline uint32_t any_u16(reader *r) { return read_u8(r) | (uint32_t)read_u8(r) << 8; }
static inline uint32_t any_below(reader *r, uint32_t below) { return any_u16(r) % below; }

static inline uint64_t any_u64(reader *r)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | read_u8(r);
    return v;
}

/* Instruction sets to compare with portable C. */
static inline uint32_t best_isa(void) { return szd_isa_available(); }
#endif
